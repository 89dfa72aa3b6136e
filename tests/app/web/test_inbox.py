"""The console's inbox: what waits for an admin, with its count in the navigation, until it is done."""

import re
from datetime import timedelta
from decimal import Decimal

from sqlalchemy import update

from app.accounts.members import add_member, caller_by_id, list_members
from app.admin.inbox import ITEMS_MAX
from app.admin.inbox_counts import INBOX_COUNTS, KEPT_SECONDS, InboxCounts
from app.admin.top_ups import TopUp, add_funds
from app.audit_log.actor import Actor
from app.clock import now
from app.db import transaction
from app.dispatch.tables import ServiceFigures
from app.dispatch.worker_registry import register_worker
from app.prices.contracts import approve_contract, draft_contract, schedule_contract
from app.roles import Role
from app.webhooks.tables import Endpoint
from tests.app.prices.price_documents import APPROVER, AUTHOR, contract_text
from tests.app.web.conftest import Browser, Site
from tests.app.web.test_book_form import PATH, send
from tests.app.webhooks.factories import open_endpoint


def waiting(browser: Browser) -> int:
    """Return the count beside the inbox in the navigation, as it is counted anew."""
    INBOX_COUNTS.forget()
    browser.get("/admin/price-books")
    match = re.search(r"Inbox <span class=\"badge\">(\d+)", browser.page.text)
    return int(match[1]) if match else 0


def test_a_count_is_kept_for_some_seconds():
    moment = 0.0
    counts, numbers = InboxCounts(lambda: moment), iter(range(1, 10))

    def get(person: str) -> int:
        return counts.get(person, lambda: next(numbers))

    assert [get("alice"), get("alice"), get("bob")] == [1, 1, 2]
    moment = KEPT_SECONDS
    assert [get("alice"), get("alice")] == [3, 3]
    counts.forget()
    assert get("alice") == 4


def test_what_an_admin_does_is_counted_at_once(site: Site):
    serve(site)
    author, approver = site.browser("author"), site.browser("approver")
    INBOX_COUNTS.forget()
    approver.get("/admin")
    assert "badge" not in approver.page.text
    author.get(f"{PATH}/new")
    send(author, "save", {"title.en": "Autumn prices", "note": "cheaper flex"})
    approver.get("/admin")
    assert 'Inbox <span class="badge">1' in approver.page.text


def inbox(browser: Browser) -> str:
    browser.get("/admin/inbox")
    return browser.text()


def serve(site: Site) -> None:
    """Register a worker of each pool that customers use."""
    with transaction() as session:
        register_worker(session, "w-1", pools=["finish", "demo"], host="h", pid=1, device="cpu", facts={})


def test_a_draft_waits_for_its_approver_and_then_for_its_date(site: Site):
    serve(site)
    author, approver = site.browser("author"), site.browser("approver")
    assert "Nothing to do." in inbox(approver)
    author.get(f"{PATH}/new")
    send(author, "save", {"title.en": "Autumn prices", "note": "cheaper flex"})
    assert waiting(author) == 0, "its author cannot approve it"
    assert waiting(approver) == 1
    words = inbox(approver)
    assert "The price book “Autumn prices” waits for your approval." in words
    assert "cheaper flex" in words
    assert "By author@example.com" in words
    book = re.search(r'href="(/admin/price-books/book_\w+)"', approver.page.text)[1]
    approver.get(book)
    content_hash = re.search(r'name="content_hash" value="([^"]+)"', approver.page.text)[1]
    approver.send(f"{book}/approval", {"content_hash": content_hash})
    for browser in (author, approver):
        assert "The price book “Autumn prices” is approved, and has no date yet." in inbox(browser)
    approver.get(book)
    approver.send(f"{book}/publication", {"effective_at": "2030-01-01T00:00", "sure": "yes"})
    assert [waiting(author), waiting(approver)] == [0, 0]


def test_old_drafts_hide_no_new_ones(site: Site):
    """What a person cannot approve, or nobody can schedule any more, is not read: it would crowd out the rest."""
    serve(site)
    approver = site.browser("approver")
    with transaction() as session:
        person = list_members(session, site.accounts["approver"])[0].id
        add_member(session, site.accounts["author"], "second@example.com", roles=["pricing_approver"])
        writer = Actor(person, person, frozenset({Role.PRICING_AUTHOR}))
        overtaken = draft_contract(session, AUTHOR, site.accounts["bob"], contract_text(name="overtaken"))
        first = draft_contract(session, AUTHOR, site.accounts["bob"], contract_text())
        approve_contract(session, APPROVER, first.id, content_hash=first.content_hash)
        schedule_contract(session, AUTHOR, first.id)
        draft_contract(session, AUTHOR, site.accounts["alice"], contract_text(), note="the newest of all")
        for _ in range(ITEMS_MAX + 1):
            own = draft_contract(session, writer, site.accounts["alice"], contract_text())
            own.edited_at -= timedelta(days=1)
        assert overtaken.based_on is None
    assert waiting(approver) == 1
    assert "the newest of all" in inbox(approver)


def test_operators_see_what_needs_them(site: Site):
    operator, approver = site.browser("author"), site.browser("approver")
    assert "No worker serves demo, finish." in inbox(operator)
    serve(site)
    assert waiting(operator) == 0
    with transaction() as session:
        second = add_member(session, site.accounts["author"], "second@example.com", roles=["operator"])
        order = TopUp(amount=20_000_000, kind="purchased", reference="invoice 77")
        add_funds(session, Actor.of(caller_by_id(session, second.id)), site.accounts["bob"], order)
        owner = caller_by_id(session, list_members(session, site.accounts["alice"])[0].id)
        open_endpoint(session, owner, "https://hooks.example.com/one")
        session.execute(update(Endpoint).values(failing_since=now(session) - timedelta(hours=1)))
        figures = {"charged": 1000, "refunded": 0, "films": 1, "failed": 0, "seconds": 1}
        gpu_seconds = Decimal(1_000_000)
        session.add(ServiceFigures(starts_at=now(session), error_code="", gpu_seconds=gpu_seconds, **figures))
    words = inbox(operator)
    for sentence in (
        "A top-up of ¥200,000.00 for Bob waits for a second operator.",
        "invoice 77",
        "A webhook endpoint of Alice fails.",
        "https://hooks.example.com/one",
        "The margin of the last 7 days is −",
    ):
        assert sentence in words
    assert waiting(operator) == 3
    with transaction() as session:
        open_endpoint(session, owner, "https://hooks.example.com/two")
        session.execute(update(Endpoint).values(failing_since=now(session) - timedelta(hours=1)))
    assert "2 webhook endpoints fail." in inbox(operator)
    assert waiting(operator) == 3, "the endpoints that fail are one item"
    assert "Nothing to do." in inbox(approver), "who approves prices runs no machines"
