"""Usage, statements and receipts say what the receipts' rows say, in both languages, to the last fen."""

import csv
import io
import json
from datetime import timedelta
from fractions import Fraction
from pathlib import Path

import pytest
from sqlalchemy import text, update
from sqlalchemy.orm import Session

from app.accounts.projects import create_project
from app.clock import now
from app.errors import AppError
from app.jobs.tables import ReceiptRow
from app.reports.receipt_pages import receipt_document, receipt_html, receipt_pdf
from app.reports.replay import replay_job
from app.reports.statement_csv import write_csv
from app.reports.statement_pdf import statement_pdf
from app.reports.statements import make_statement
from app.reports.translations import WORDS
from app.reports.usage import read_usage
from tests.api_client import World
from tests.ledger_simulation import Line

BARS = [{"prompt": "a", "seconds": 2}, {"prompt": "b", "seconds": 3}]


@pytest.fixture
def line(session: Session) -> Line:
    return Line(session)


def month_of(line: Line) -> str:
    return (now(line.session) + timedelta(hours=8)).strftime("%Y-%m")


def test_usage_and_statement_add_up_to_what_was_charged(line: Line) -> None:
    line.skip_to_mid_month()
    alice = line.open()
    project = line.act(lambda: create_project(line.session, alice.account_id, "=广告 & Trailer"))
    line.order(alice, seconds=5, project=project.id)
    line.order(alice, seconds=7, resolution="1080P", service_tier="priority")
    half = line.order(alice, shots=BARS)
    line.wait(seconds=90)
    first, second, third = (line.start() for _ in range(3))
    assert first
    assert second
    assert third
    for claim in (first, second, third):
        line.make(claim)
    line.cancel(alice, half.id)
    line.work()
    charged = 100_000 - line.posted(alice)
    today = (now(line.session) + timedelta(hours=8)).date()

    rows = read_usage(line.session, alice.account_id, first=today - timedelta(days=1), last=today)
    assert sum(row.total for row in rows) == charged
    assert {row.project_id for row in rows} == {project.id, None}
    only = read_usage(line.session, alice.account_id, first=today, last=today, project_id=project.id)
    assert [(row.videos, row.seconds, row.total) for row in only] == [(1, Fraction(5), 219)]

    statement = make_statement(line.session, alice.account_id, month_of(line))
    assert statement.whole.total == charged
    assert statement.closing == line.posted(alice)
    assert {(each.kind, each.amount) for each in statement.moved} == {("purchase", 100_000), ("capture", -charged)}
    assert {each.tier: each.started for each in statement.waits} == {"standard": 2, "priority": 1}
    assert all(each.median >= 90 for each in statement.waits)
    content = json.loads(json.dumps(statement.content()))
    assert Fraction(content["total"]) == Fraction(charged, 100)
    assert content["receipts"] == {"first": 1, "last": 3}

    for language in ("en", "zh"):
        document = write_csv(line.session, statement, language)
        table = list(csv.DictReader(io.StringIO(document.removeprefix("\ufeff"))))
        at = {"en": ("Charged", "Project"), "zh": ("实付", "项目")}[language]
        assert sum(Fraction(row[at[0]]) for row in table[:-1]) == Fraction(table[-1][at[0]]) == Fraction(charged, 100)
        # A name that a spreadsheet would compute is made inert.
        assert [row[{"en": "No.", "zh": "编号"}[language]] for row in table[:-1]] == ["1", "2", "3"]
        assert {row[at[1]] for row in table} == {"'=广告 & Trailer", ""}
        labels = {
            "en": {"Service tier": "Priority", "Membership": "Professional", "Mode": "from text"},
            "zh": {"服务等级": "优先", "会员": "专业版", "模式": "文生视频"},
        }[language]
        assert any(labels.items() <= row.items() for row in table)
        assert not any(inner in document for inner in ("t2v", "priority", "professional"))
        document = statement_pdf(statement, language)
        assert document.startswith(b"%PDF-")
        assert document == statement_pdf(statement, language)
        assert b"DroidSansFallback" in document
    of_project = make_statement(line.session, alice.account_id, month_of(line), project.id)
    assert (of_project.whole.total, of_project.opening, of_project.project) == (219, None, "=广告 & Trailer")


def test_another_accounts_project_and_an_invalid_month_are_refused(line: Line) -> None:
    alice, bob = line.open("Alice"), line.open("Bob")
    project = line.act(lambda: create_project(line.session, bob.account_id, "Secret"))
    for month, project_id, code in ((month_of(line), project.id, "not_found"), ("May", None, "invalid_request")):
        with pytest.raises(AppError) as refused:
            make_statement(line.session, alice.account_id, month, project_id)
        assert refused.value.code == code
    with pytest.raises(AppError):
        read_usage(
            line.session,
            alice.account_id,
            first=now(line.session).date(),
            last=now(line.session).date() - timedelta(days=1),
        )


def test_a_receipt_reads_in_both_languages_and_replays(line: Line, tmp_path: Path) -> None:
    alice = line.open("<b>Wu 工作室</b>")
    job = line.order(alice, seconds=10)
    line.work()
    english, chinese = (receipt_document(line.session, job.id, language) for language in ("en", "zh"))
    assert english.total == ("Total", "4.39")
    assert chinese.total == ("合计", "4.39")
    assert any("Professional" in what for what, _, _ in english.lines)
    assert any("会员" in what for what, _, _ in chinese.lines)
    assert (dict(english.facts)["Model"], dict(english.facts)["Service tier"]) == (
        "synthetic, 720P, from text",
        "Standard",
    )
    assert (dict(chinese.facts)["模型"], dict(chinese.facts)["服务等级"]) == ("synthetic, 720P, 文生视频", "标准")
    assert sum(Fraction(amount) for _, _, amount in english.lines) == Fraction("4.39")
    html = receipt_html(chinese)
    assert "<b>Wu" not in html
    assert "&lt;b&gt;Wu 工作室" in html
    document = receipt_pdf(chinese)
    assert document.startswith(b"%PDF-")
    assert b"DroidSansFallback" in document
    body, difference = replay_job(line.session, job.id)
    assert (json.loads(body)["total"], difference) == ("4.39", None)


def test_a_rewritten_receipt_does_not_replay(line: Line) -> None:
    alice = line.open()
    job = line.order(alice, seconds=10)
    line.work()
    body = line.receipt(job.id).body.replace('"total":"4.39"', '"total":"4.38"', 1)
    line.session.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))  # no trigger waits for the commit
    line.session.execute(text("ALTER TABLE receipts DISABLE TRIGGER USER"))
    line.session.execute(update(ReceiptRow).where(ReceiptRow.job_id == job.id).values(body=body))
    line.session.expire_all()
    assert replay_job(line.session, job.id)[1] is not None


def test_every_label_has_both_languages() -> None:
    for english, chinese in WORDS.values():
        assert english
        assert any("\u4e00" <= sign <= "\u9fff" for sign in chinese)


def test_statements_and_receipts_are_served_by_the_api(world: World) -> None:
    order = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}
    job = world.post("/v1/videos", order).json()
    world.work()
    charged = world.get(f"/v1/videos/{job['id']}").json()["charged"]
    usage = world.get("/v1/usage").json()
    assert (usage["videos"], usage["seconds"], usage["total"]) == (1, "1", charged)
    assert world.get("/v1/usage", key=world.bob).json()["data"] == []
    assert world.get("/v1/statements").json()["total"] == charged
    table = world.get("/v1/statements?format=csv&language=zh")
    assert table.headers["content-type"] == "text/csv; charset=utf-8"
    assert job["id"] in table.text
    for path in ("/v1/statements?format=pdf", f"/v1/videos/{job['id']}/receipt.pdf?language=zh"):
        answer = world.get(path)
        assert (answer.headers["content-type"], answer.content[:5]) == ("application/pdf", b"%PDF-")
    page = world.get(f"/v1/videos/{job['id']}/receipt.html")
    assert charged in page.text
    assert world.get(f"/v1/videos/{job['id']}/receipt.html", key=world.bob).status_code == 404
    assert world.get("/v1/statements?format=docx").json()["code"] == "invalid_request"
