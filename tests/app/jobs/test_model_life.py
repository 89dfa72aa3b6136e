"""A job keeps the model that its alias meant, and a retired model accepts no orders but renders the accepted ones."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from app.accounts.caller import Caller
from app.catalog.models import load_catalog
from app.clock import now
from app.errors import AppError
from app.events.tables import Event
from app.jobs.derive import remix
from app.jobs.find import JobFilter, list_jobs
from app.jobs.idempotency import OrderIdentity
from app.jobs.present import show_job
from app.jobs.quote import estimate, show_quote
from app.jobs.retirement_notices import (
    LATELY,
    NOTICE_LEAD,
    account_batch,
    accounts_to_notify,
    notify_account,
    retiring_models,
    to_notify,
)
from app.jobs.submit import submit
from app.settings import get_settings
from app.webhooks.tables import Delivery
from tests.app.webhooks.factories import open_endpoint
from tests.factories import make_account, make_queued_job
from tests.ledger_simulation import Line, request
from tests.model_folder import ModelFolder


@pytest.fixture
def line(session: Session, models: ModelFolder) -> Line:
    return Line(session)


def retire(models: ModelFolder, model: str, at: datetime, *, deprecated_at: datetime | None = None) -> None:
    lines = [f"retires_at = {at.isoformat()}", 'replaced_by = "second"']
    if deprecated_at is not None:
        lines.append(f"deprecated_at = {deprecated_at.isoformat()}")
    models.write(model, *lines)


def test_a_job_keeps_what_its_alias_meant(line: Line, models: ModelFolder) -> None:
    alice = line.open()
    models.alias(best="first")
    job = line.order(alice, key="one", model="best", seconds=2)
    assert (job.model, job.model_alias, job.spec["model"]) == ("first", "best", "first")
    shown = show_job(job)
    assert (shown.model, shown.model_alias) == ("first", "best")
    models.alias(best="second")
    assert line.order(alice, key="one", model="best", seconds=2).id == job.id, "a retry is answered with the first job"
    newer = line.order(alice, model="best", seconds=2)
    assert (newer.model, newer.model_alias) == ("second", "best")
    line.work()
    receipt = json.loads(line.receipt(job.id).body)
    assert receipt["quoted"]["usage"]["model"] == "first"
    assert receipt["delivered"]["facts"]["model_alias"] == "best"
    by_id = line.order(alice, model="second", seconds=2)
    line.work()
    assert by_id.model_alias is None
    assert "model_alias" not in line.receipt(by_id.id).body
    models.alias()
    line.check()


def test_a_filter_by_alias_finds_its_films(line: Line, models: ModelFolder) -> None:
    alice = line.open()
    models.alias(best="first")
    job_ids = [line.order(alice, model=name, seconds=1).id for name in ("best", "first", "second")]

    def listed(name: str) -> list[str]:
        return [job.id for job in list_jobs(line.session, alice, JobFilter(model=name), order="asc")[0]]

    assert listed("best") == listed("first") == job_ids[:2]
    models.alias(best="second")
    assert listed("best") == [job_ids[0], job_ids[2]], "of its model, and ordered under it"
    models.alias()
    assert listed("best") == job_ids[:1]
    assert listed("nothing") == []


def test_a_quote_keeps_what_its_alias_meant(line: Line, models: ModelFolder) -> None:
    alice = line.open()
    models.alias(best="first")
    quote = line.quote(alice, model="best", seconds=2)
    assert show_quote(quote).resolved["model_alias"] == "best"
    models.alias(best="second")
    job = line.order(alice, model="best", seconds=2, quote_id=quote.id)
    assert (job.model, job.model_alias, job.total) == ("first", "best", quote.total)
    other = line.quote(alice, model="first", seconds=2)
    with pytest.raises(AppError, match="quote is for the model first"):
        line.order(alice, model="best", seconds=2, quote_id=other.id)
    models.alias(best="first")
    assert line.order(alice, model="best", seconds=2, quote_id=other.id).model == "first"
    line.work()
    line.check()


def test_a_retired_model_refuses_orders_and_renders_accepted_ones(line: Line, models: ModelFolder) -> None:
    alice, session = line.open(), line.session
    models.alias(best="first")
    ends = now(session) + timedelta(minutes=5)
    retire(models, "first", ends)
    job = line.order(alice, model="best", seconds=2)
    quote = line.quote(alice, model="first", seconds=2)
    assert quote.expires_at == ends, "no quote outlives its model"
    line.wait(minutes=5)
    for name in ("first", "best"):
        with pytest.raises(AppError) as refused:
            line.order(alice, model=name, seconds=2)
        assert (refused.value.code, refused.value.status, refused.value.field) == ("model_retired", 422, "model")
        assert refused.value.facts["replaced_by"] == "second"
        assert "order second instead" in refused.value.message
    with pytest.raises(AppError) as expired:
        line.order(alice, model="first", seconds=2, quote_id=quote.id)
    assert expired.value.code == "quote_expired"
    line.work()
    job = line.job(job.id)
    assert job.state == "completed"
    derived = OrderIdentity(request(model="first"), spec=remix(job, prompt="other bars"))
    with pytest.raises(AppError, match="order second instead"):
        line.act(lambda: submit(session, alice, derived))
    line.sweep()
    line.check()


def test_auto_takes_no_retired_model(line: Line, models: ModelFolder) -> None:
    alice = line.open()
    demo = load_catalog()["demo"]
    assert estimate(line.session, alice, request(model="auto", seconds=2)).model.id == demo.id
    text = (models.path / "first.toml").read_text(encoding="utf-8").replace('"first"', '"demo"')
    (models.path / "demo.toml").write_text(f"retires_at = 2020-01-01T00:00:00Z\n{text}", encoding="utf-8")
    load_catalog.cache_clear()
    with pytest.raises(AppError, match="No enabled model can do t2v"):
        estimate(line.session, alice, request(model="auto", seconds=2))
    with pytest.raises(AppError) as unknown:
        estimate(line.session, alice, request(model="nothing", seconds=2))
    assert unknown.value.facts["allowed"] == ["auto", "first", "second", "synthetic"]


def retiring_events(line: Line, caller: Caller) -> list[dict[str, object]]:
    query = select(Event).where(Event.account_id == caller.account_id, Event.type == "model.retiring")
    return [json.loads(event.body)["data"] | {"test": event.test} for event in line.session.scalars(query)]


def notify(line: Line) -> int:
    """What the scheduler does every ten minutes."""
    session, catalog = line.session, load_catalog(get_settings().catalog_dir)
    due = [
        (model, *account)
        for model in retiring_models(session, catalog.values())
        for account in accounts_to_notify(session, model, account_batch(session, ""))
    ]
    return sum(
        line.act(lambda each=each: notify_account(session, each[1], each[0], is_test=each[2]))  # type: ignore[misc]
        for each in due
    )


def test_who_used_a_retiring_model_lately_is_notified_once(line: Line, models: ModelFolder) -> None:
    session = line.session
    past, alice, bob = line.open("Past"), line.open("Alice"), line.open("Bob")
    tester = line.open("Tester", test=True)
    endpoint = line.act(lambda: open_endpoint(session, alice))
    line.order(past, model="first", seconds=1)
    line.wait(days=LATELY.days)
    line.order(alice, model="first", seconds=1)
    line.order(alice, model="first", seconds=1)
    line.order(tester, model="first", seconds=1)
    line.order(bob, model="second", seconds=1)
    ends = (now(session) + NOTICE_LEAD).astimezone(UTC).replace(microsecond=0) + timedelta(hours=1)
    retire(models, "first", ends)
    assert notify(line) == 0, "earlier than its lead"
    line.wait(hours=2)
    assert notify(line) == 2
    assert notify(line) == 0
    [notice] = retiring_events(line, alice)
    expected = {"id": "first", "retires_at": int(ends.timestamp()), "replaced_by": "second", "test": False}
    assert expected.items() <= notice.items()
    assert [each["test"] for each in retiring_events(line, tester)] == [True]
    assert retiring_events(line, past) == retiring_events(line, bob) == []
    assert session.query(Delivery).filter_by(endpoint_id=endpoint.id).count() == 3, "the event and those of two orders"
    line.order(bob, model="first", seconds=1)
    assert notify(line) == 1, "whoever begins to use it is notified then"
    retire(models, "first", ends + timedelta(days=1))
    line.wait(days=1)
    assert notify(line) == 3, "another date is another event"
    line.wait(days=NOTICE_LEAD.days + 1)
    assert notify(line) == 0


def test_the_live_side_is_notified_also_after_the_test_side(line: Line, models: ModelFolder) -> None:
    live = line.open()
    tester = replace(live, test=True)
    retire(models, "first", now(line.session) + timedelta(days=30))
    line.order(tester, model="first", seconds=1)
    assert (notify(line), notify(line)) == (1, 0)
    line.order(live, model="first", seconds=1)
    assert (notify(line), notify(line)) == (1, 0)
    # Rows of one moment have no order.
    assert sorted(bool(each["test"]) for each in retiring_events(line, live)) == [False, True]


_COPIES = [
    text("""
        INSERT INTO accounts SELECT copy.* FROM accounts AS a, generate_series(1, 100) AS n, jsonb_populate_record(
            CAST(NULL AS accounts), to_jsonb(a) || jsonb_build_object('id', a.id || n)
        ) AS copy WHERE a.id = :account_id
    """),
    text("""
        INSERT INTO jobs SELECT copy.* FROM jobs AS j, generate_series(1, 6000) AS n, jsonb_populate_record(
            CAST(NULL AS jobs), to_jsonb(j) || jsonb_build_object(
                'id', j.id || n, 'account_id', j.account_id || (n % 100 + 1), 'mark_id', NULL,
                'model', CASE n % 7 WHEN 0 THEN 'second' ELSE 'first' END,
                'created_at', j.created_at - n * interval '1 second'
            )
        ) AS copy WHERE j.account_id = :account_id
    """),
    text("ANALYZE accounts, jobs"),
]


def test_accounts_to_notify_are_read_by_an_index(session: Session, models: ModelFolder) -> None:
    account = make_account(session)
    make_queued_job(session, account.id)
    for statement in _COPIES:
        session.execute(statement, {"account_id": account.id} if statement is not _COPIES[-1] else {})
    retire(models, "first", now(session) + timedelta(days=30))
    account_ids = account_batch(session, "")
    assert len(account_ids) == 100
    assert account_batch(session, account_ids[-1])
    query = to_notify(session, load_catalog(get_settings().catalog_dir)["first"], account_ids)
    sql = str(query.compile(dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True}))
    plan = "\n".join(session.scalars(text(f"EXPLAIN {sql}".replace(":", r"\:"))))
    assert "ix_jobs_films" in plan, plan
    assert "Seq Scan on jobs" not in plan, plan


def test_a_deprecated_model_is_announced_from_its_deprecation_on(line: Line, models: ModelFolder) -> None:
    alice, moment = line.open(), now(line.session)
    line.order(alice, model="first", seconds=1)
    retire(models, "first", moment + timedelta(days=200), deprecated_at=moment + timedelta(days=10))
    assert notify(line) == 0
    line.wait(days=10)
    assert notify(line) == 1
