"""The console: acts on accounts, films and deliveries, and what stands in the trail afterwards."""

import re
from datetime import timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.members import caller_by_id, list_members
from app.accounts.memberships import membership_at
from app.clock import now
from app.db import transaction
from app.dispatch.roster import sign_on
from app.prices.trail import list_entries
from app.wallet.balance import balance
from app.wallet.funds import refund
from app.web.console.overview import read_days
from app.webhooks.tables import Delivery
from tests.app.web.conftest import Site
from tests.app.web.test_ends import order
from tests.app.webhooks.world import open_endpoint
from tests.line import Line
from workers.engine.machine import machine_facts


def acts() -> list[str]:
    with transaction() as session:
        return [entry.act for entry in reversed(list_entries(session))][3:]


def test_an_operator_changes_an_account(site: Site):
    browser = site.browser("author")
    account = f"/admin/accounts/{site.accounts['bob']}"
    browser.get(account)
    browser.send(f"{account}/membership", {"membership": "studio"})
    browser.send(f"{account}/membership", {"membership": "free"})
    browser.send(f"{account}/limits", {"concurrency": "3", "queue_limit": "", "credit_limit": "50"})
    browser.send(f"{account}/top-up", {"amount": "12.50", "kind": "purchased", "reference": "invoice 7"})
    browser.send(f"{account}/suspension", {"reason": "asked to"})
    assert "Suspended" in browser.text()
    browser.send(f"{account}/reinstatement")
    with transaction() as session:
        assert membership_at(session, site.accounts["bob"], now(session) + timedelta(seconds=1)) == "free"
        assert balance(session, site.accounts["bob"]).available == 100_000 + 1_250 + 5_000
    assert acts() == [
        *("account.membership_changed", "account.membership_changed", "account.limited", "wallet.credit_limited"),
        *("wallet.topped_up", "account.suspended", "account.reinstated"),
    ]


def test_revenue_is_what_was_charged_less_what_was_refunded(session: Session):
    line, zone = Line(session), ZoneInfo("Asia/Shanghai")
    alice = line.open()
    job = line.order(alice, seconds=10)
    line.work()
    settled = line.wait(days=1).astimezone(zone).date() - timedelta(days=1)
    line.act(lambda: refund(session, job.id, 100, reference="flicker", reason="flicker"))
    days = read_days(session, settled, zone)
    assert {day: (each.charged, each.refunded, each.films) for day, each in days.items()} == {
        settled: (439, 0, 1),
        settled + timedelta(days=1): (0, 100, 0),
    }


def test_a_refused_act_is_said_on_the_page_and_changes_nothing(site: Site):
    browser = site.browser("author")
    account = f"/admin/accounts/{site.accounts['bob']}"
    for act, form, words in (
        ("top-up", {"amount": "ten", "reference": "x"}, "no amount"),
        ("top-up", {"amount": "10", "reference": ""}, "so that it counts once"),
        ("membership", {"membership": "gold"}, "There is no membership"),
        ("limits", {"concurrency": "many"}, "whole number"),
        ("limits", {"concurrency": "2", "credit_limit": "-5"}, "at least"),
    ):
        browser.get(account)
        assert browser.send(f"{account}/{act}", form).status_code == 422, act
        assert words in browser.text()
    assert browser.send(f"{account}/nonsense").status_code == 404
    assert acts() == []
    approver = site.browser("approver")
    approver.get(account)
    assert "Top up" not in approver.text()
    assert approver.send(f"{account}/top-up", {"amount": "10", "reference": "x"}).status_code == 403


def test_a_film_is_found_and_followed_from_the_console(site: Site):
    film = order(site.browser("alice"), shot_prompt="a film to look into")
    browser = site.browser("approver")
    for address in ("/admin/films", f"/admin{film}"):
        browser.get(address)
        assert "waiting, 0 %" in browser.text()
        assert "about" not in browser.text(), "nobody serves it, so nothing is promised"
    with transaction() as session:
        sign_on(session, "w-1", pools=["finish", "demo", "synthetic"], host="h", pid=1, device="cpu", facts={})
    for address in ("/admin/films", f"/admin{film}"):
        browser.get(address)
        assert re.search(r"waiting, 0 %, about \d+(–\d+)? (s|min)", browser.text())
    site.work()
    browser.get("/admin/films?search=look into")
    assert "a film to look into" in browser.text()
    browser.get("/admin/films?search=nothing like it")
    assert "a film to look into" not in browser.text()
    browser.get(f"/admin{film}")
    told = browser.text()
    for words in ("video.created", "video.completed", "Shot 1, segment 1", "succeeded", "worker-in-test", "receipt 1"):
        assert words in told
    browser.get("/admin/workers")
    assert str(machine_facts("cpu")["name"]) in browser.text(), "the roster tells what each worker renders on"


def test_a_delivery_is_sent_once_more_from_the_console(site: Site):
    alice = site.browser("alice")
    with transaction() as session:
        owner = caller_by_id(session, list_members(session, site.accounts["alice"])[0].id)
        open_endpoint(session, owner, "https://hooks.example.com/one")
    order(alice)
    with transaction() as session:
        first = session.scalars(select(Delivery.id)).first()
    browser = site.browser("author")
    browser.get("/admin/deliveries")
    assert "video.created" in browser.text()
    browser.get(f"/admin/deliveries/{first}")
    assert "hooks.example.com" in browser.text()
    assert "None yet." in browser.text()
    assert browser.send(f"/admin/deliveries/{first}/redelivery").status_code == 200
    assert acts()[-1] == "delivery.repeated"
