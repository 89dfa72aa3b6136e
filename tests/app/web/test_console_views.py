"""What the console shows of accounts, films and the audit log."""

import csv
import io
import json
import re
from datetime import timedelta

from sqlalchemy import text, update

from app.audit_log.log import list_entries
from app.clock import now
from app.db import transaction
from app.dispatch.tables import ServiceFigures
from app.dispatch.worker_registry import register_worker
from app.jobs.queue_tables import Unit
from tests.app.web.conftest import Browser, Site
from tests.app.web.test_ends import order


def cells(browser: Browser, name: str) -> list[str]:
    """Return the cells of the row of a table that begins with a name."""
    row = next(each for each in re.findall(r"<tr>.*?</tr>", browser.page.text, re.DOTALL) if f">{name}</a>" in each)
    return [re.sub(r"<[^>]+>", "", each).strip() for each in re.findall(r"<td.*?</td>", row, re.DOTALL)]


def acts() -> list[str]:
    with transaction() as session:
        return [entry.act for entry in list_entries(session)]


def test_the_list_of_accounts_shows_money_and_activity(site: Site):
    order(site.browser("alice"))
    site.work()
    browser = site.browser("author")
    browser.get("/admin/accounts")
    membership, available, spent, newest, _ = cells(browser, "Alice")
    assert membership == "professionalprepaid"
    assert (available, spent, newest) == ("¥999.56", "¥0.44", "just now")
    assert cells(browser, "Bob")[1:4] == ["¥1,000.00", "¥0.00", "never"]
    assert cells(browser, "Author")[1] == "¥0.00"
    browser.get(f"/admin/accounts/{site.accounts['alice']}")
    assert "Spent in 30 days ¥0.44" in browser.text()
    assert '<details class="disclose card tight"><summary>Top up</summary>' in browser.page.text
    browser.send(f"/admin/accounts/{site.accounts['alice']}/top-up", {"amount": "ten", "reference": "x"})
    assert '<details class="disclose card tight" open><summary>Top up</summary>' in browser.page.text


def test_an_operator_sees_a_film_and_revokes_its_links(site: Site):
    film = order(site.browser("alice"))
    operator, approver = site.browser("author"), site.browser("approver")
    operator.get(f"/admin{film}")
    assert "Show the film" not in operator.text(), "it is not there yet"
    site.work()
    approver.get(f"/admin{film}")
    assert "Show the film" not in approver.text()
    assert approver.send(f"/admin{film}/view").status_code == 403
    operator.get(f"/admin{film}")
    assert acts()[0] != "film.viewed"
    operator.send(f"/admin{film}/view")
    [link] = re.findall(r'<video [^>]*src="(/files/[^"]+)"', operator.page.text)
    assert operator.client.get(link).status_code == 200
    operator.send(f"/admin{film}/links/revocation")
    assert "The links were revoked." in operator.text()
    assert operator.client.get(link).status_code == 410
    assert acts()[:2] == ["job.links_revoked", "film.viewed"]


def test_its_owner_revokes_the_links_of_a_film(site: Site):
    browser = site.browser("alice")
    film = order(browser)
    site.work()
    before = browser.client.get(f"{film}/video", follow_redirects=False).headers["location"]
    browser.get(film)
    answer = browser.send(f"{film}/links/revocation")
    assert answer.history[0].headers["clear-site-data"] == '"cache"'
    assert "The links were revoked." in browser.text()
    assert browser.client.get(before).status_code == 410
    assert browser.client.get(f"{film}/video").status_code == 200


def test_the_audit_log_is_filtered_and_exported(site: Site):
    browser = site.browser("author")
    account = f"/admin/accounts/{site.accounts['bob']}"
    browser.get(account)
    browser.send(f"{account}/membership", {"membership": "studio"})
    browser.send(f"{account}/suspension", {"reason": "=1+1"})
    path = "/admin/trail?person=Author@example.com"
    for query, count in (("", 2), ("&act=account.suspended", 1), ("&until=2020-01-01", 0), ("&since=2020-01-01", 2)):
        browser.get(path + query)
        assert len(re.findall(r'<td class="number">\d+</td>', browser.page.text)) == count, query
    browser.get(path.replace("Author", "approver"))
    assert "No entries." in browser.text()
    assert browser.get("/admin/trail?since=yesterday").status_code == 422
    assert "Write the day as 2026-12-31." in browser.text()
    table = browser.client.get(path.replace("trail", "trail.csv")).content.decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [row["action"] for row in rows] == ["account.suspended", "account.membership_changed"]
    assert json.loads(rows[0]["facts"])["reason"] == "=1+1"
    lines = browser.client.get(f"/admin/trail.jsonl?subject={site.accounts['bob']}").text.splitlines()
    entries = [json.loads(line) for line in lines]
    assert [entry["action"] for entry in entries[:2]] == [row["action"] for row in rows]
    assert entries[0]["previous_hash"] == entries[1]["hash"]


def test_a_worker_shows_what_it_did_in_the_last_day(site: Site):
    film = order(site.browser("alice"))
    site.work()
    with transaction() as session:
        register_worker(
            session, "worker-in-test", pools=["finish"], host="h", pid=7, device="cpu", facts={"cuda": "13"}
        )
    browser = site.browser("approver")
    browser.get("/admin/workers")
    assert "worker-in-test" in browser.text()
    browser.get("/admin/workers/worker-in-test")
    words = browser.text()
    for part in ("Takes in 24 h 2", "Errors in 24 h 0", "Segment film synthetic", "Finish film", "cuda 13"):
        assert part in words, part
    assert f'href="/admin{film}"' in browser.page.text
    assert browser.get("/admin/workers/nobody").status_code == 404


def test_the_workers_page_says_which_units_fit_no_worker(site: Site):
    order(site.browser("alice"))
    facts = {"memory_bytes": 24 * 2**30, "features": ["bfloat16"]}
    with transaction() as session:
        pool = session.scalars(update(Unit).values(memory_mb=40 * 1024, features=["fp8"]).returning(Unit.pool)).first()
        register_worker(session, "small", pools=[str(pool)], host="h", pid=7, device="cuda:0", facts=facts)
    browser = site.browser("author")
    for features, words in (
        ("{fp8}", " and fp8."),
        ("{}", "."),
    ):
        with transaction() as session:
            session.execute(text("UPDATE units SET features = CAST(:features AS text[])"), {"features": features})
        browser.get("/admin/workers")
        assert (
            f"No worker fits 1 unit of synthetic in pool {pool}. Needed are 42.9 GB of GPU memory{words}"
            in browser.text()
        )
    browser.get("/admin/workers/small")
    assert "features bfloat16" in browser.text()


def test_the_overview_compares_with_the_period_before_and_leads_to_the_films(site: Site):
    order(site.browser("alice"), shot_prompt="a film of today")
    with transaction() as session:
        moment = now(session)
        sums = {"refunded": 0, "films": 2, "failed": 0, "seconds": 3, "gpu_seconds": 0, "error_code": ""}
        session.add(ServiceFigures(starts_at=moment - timedelta(days=2), charged=1500, **sums))
        session.add(ServiceFigures(starts_at=moment - timedelta(days=10), charged=1000, **sums))
    browser = site.browser("author")
    browser.get("/admin?days=7")
    words = browser.text()
    assert "Before: ¥10.00 +50.0 %" in words
    assert ">¥10.00</text>" in browser.page.text, "the axis has a half and an end"
    [last] = re.findall(r'href="/admin/films\?until=([0-9-]+)">[^<]+</a></th>', browser.page.text)[6:7]
    browser.get(f"/admin/films?until={last}")
    assert "a film of today" in browser.text()
    browser.get("/admin/films?until=2020-01-01")
    assert "No films." in browser.text()
    assert browser.get("/admin/films?until=today").status_code == 422
