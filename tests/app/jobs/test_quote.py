"""Quotes: they bind, they are redeemed once, and what they set aside is set aside once."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from app.accounts.caller import Caller
from app.clock import now
from app.db import transaction
from app.errors import AppError
from app.jobs import quote as quoting
from app.jobs.quote import make_quote
from app.jobs.tables import Quote
from app.prices.audit import audit_prices as audit_prices
from app.prices.books import approve_book, draft_book, schedule_book
from app.prices.tables import FreeUse, Reservation
from app.settings import get_settings
from tests.app.prices.price_documents import ALONE, book_text
from tests.ledger_simulation import Line, request


@pytest.fixture
def line(session: Session) -> Line:
    return Line(session)


def test_a_quote_says_what_was_resolved_and_keeps_its_price(line: Line) -> None:
    alice = line.open()
    quote = line.quote(alice, seconds=10)
    assert quote.body["total"] == "4.39"
    assert quote.body["resolved"]["model"] == "synthetic"
    assert quote.body["resolved"]["seed"] == quote.spec["seed"]
    # A dearer book takes effect; the quote stands, and a new one costs more.
    dear = book_text("dear").replace('per_second = "0.90"', 'per_second = "1.80"')
    dear = dear.split("[[examples]]")[0] + EXAMPLE
    stored = line.act(lambda: draft_book(line.session, ALONE, dear))
    line.act(lambda: approve_book(line.session, ALONE, stored.id, content_hash=stored.content_hash))
    line.act(lambda: schedule_book(line.session, ALONE, stored.id, now(line.session) + timedelta(minutes=1)))
    line.wait(minutes=2)
    assert line.quote(alice, seconds=10).body["total"] == "8.78"
    job = line.order(alice, seconds=10, quote_id=quote.id)
    line.work()
    assert line.receipt(job.id).total == 439
    line.check()


EXAMPLE = """
[[examples]]
name = "one second"
at = 2026-06-01T00:00:00+08:00
model = "any"
resolution = "720P"
mode = "t2v"
membership = "free"
seconds = "1"
total = "1.80"
"""


def test_the_same_call_again_is_the_same_job_and_another_is_refused(line: Line) -> None:
    alice = line.open()
    quote = line.quote(alice, seconds=2)
    job = line.order(alice, seconds=2, quote_id=quote.id)
    assert line.order(alice, seconds=2, quote_id=quote.id).id == job.id
    with pytest.raises(AppError, match="already been redeemed") as refused:
        line.order(alice, seconds=2, quote_id=quote.id, metadata={"another": "body"})
    assert refused.value.code == "quote_used"
    other = line.quote(alice, seconds=2)
    with pytest.raises(AppError) as refused:
        line.order(alice, seconds=3, quote_id=other.id)
    assert (refused.value.code, refused.value.field) == ("quote_mismatch", "frames")
    line.wait(minutes=16)
    with pytest.raises(AppError) as refused:
        line.order(alice, seconds=2, quote_id=other.id)
    assert refused.value.code == "quote_expired"
    line.check()


def test_at_most_ten_films_are_in_open_quotes(line: Line) -> None:
    alice = line.open()
    line.quote(alice, seconds=1, n=6)
    for n in (5, 10):
        with pytest.raises(AppError) as refused:
            line.quote(alice, seconds=1, n=n)
        assert refused.value.code == "too_many_quotes"
    for _ in range(4):
        line.quote(alice, seconds=1)
    with pytest.raises(AppError) as refused:
        line.quote(alice, seconds=1)
    assert refused.value.code == "too_many_quotes"
    line.wait(minutes=16)
    # The scheduler releases their reservations, each in a transaction of its own; a new quote waits for none.
    line.quote(alice, seconds=1)
    assert line.sweep("expired_quotes")["expired_quotes"] == 5


def free_use(line: Line, caller: Caller) -> tuple[int, int]:
    row = line.session.scalars(select(FreeUse).where(FreeUse.account_id == caller.account_id)).one_or_none()
    flicks = 705_600_000
    return (0, 0) if row is None else (row.reserved // flicks, row.spent // flicks)


def test_free_seconds_are_set_aside_used_and_given_back(line: Line) -> None:
    line.skip_to_mid_month()
    studio = line.open(membership="studio")
    quote = line.quote(studio, seconds=40)
    assert quote.body["total"] == "0.00"
    # 60 a month: 20 are left for the next quote.
    assert any(each["rule"] == "free_seconds" for each in line.quote(studio, seconds=30).body["lines"])
    assert free_use(line, studio) == (60, 0)
    job = line.order(studio, seconds=40, quote_id=quote.id)
    line.work()
    line.wait(minutes=16)
    line.sweep("expired_quotes")
    line.session.expire_all()
    assert line.receipt(job.id).total == 0
    assert free_use(line, studio) == (0, 40)
    # A job that fails gives them back.
    line.order(studio, seconds=20)
    lease = line.start()
    assert lease is not None
    line.fail(lease)
    line.session.expire_all()
    assert free_use(line, studio) == (0, 40)
    line.check()


def test_a_test_key_uses_nothing_up(line: Line) -> None:
    tester = line.open(membership="studio", test=True)
    quote = line.quote(tester, seconds=40)
    line.order(tester, seconds=40, quote_id=quote.id)
    line.order(tester, seconds=40)
    line.work()
    assert line.session.scalars(select(Reservation)).all() == []
    assert line.posted(tester) == 100_000
    live = Caller(tester.account, tester.scopes, tester.roles)
    unused = line.quote(tester, seconds=40)
    with pytest.raises(AppError) as refused:
        line.order(live, seconds=40, quote_id=unused.id)
    assert refused.value.code == "not_found"
    line.check()


@pytest.fixture
def studio(engine: Engine) -> Iterator[Caller]:
    with Session(engine, expire_on_commit=False) as session:
        yield Line(session).open(membership="studio")


def test_two_quotes_on_the_same_free_seconds(engine: Engine, studio: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both price with all 60 in hand; one gets them, and the other is priced again with none."""
    both = threading.Barrier(2)
    real, first = quoting.estimate, threading.local()

    def estimate(*args: Any, **options: Any) -> Any:
        priced = real(*args, **options)
        if not getattr(first, "done", False):
            first.done = True
            both.wait(timeout=30)
        return priced

    monkeypatch.setattr(quoting, "estimate", estimate)
    # Not through make_quote, whose lock lets one account's quotes follow one another: a quote and an order do not.
    totals: list[str] = []

    def ask(which: int) -> None:
        with transaction(engine) as session:
            caller = Caller(studio.account, studio.scopes, studio.roles)
            priced, *_ = quoting.price_and_reserve(
                session, caller, [f"owner_{which}"], lambda: (quoting.estimate(session, caller, request(seconds=60)),)
            )
            totals.append(priced.price.total.text)

    threads = [threading.Thread(target=ask, args=(which,)) for which in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(totals) == 2
    assert sorted(totals)[0] == "0.00"
    assert sorted(totals)[1] != "0.00"
    with transaction(engine) as session:
        assert audit_prices(session) == []


def test_eight_quotes_at_once_leave_five(engine: Engine, studio: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CINEMETER_QUOTES_OPEN_MAX", "5")
    get_settings.cache_clear()
    outcomes: list[str] = []
    refused: list[str] = []

    def ask() -> None:
        try:
            with transaction(engine) as session:
                outcomes.append(make_quote(session, studio, request(seconds=20)).id)
        except AppError as error:
            refused.append(error.code)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert (len(outcomes), refused) == (5, ["too_many_quotes"] * 3)
    with transaction(engine) as session:
        totals = sorted(session.scalars(select(Quote.total)))
        assert totals[:3] == [0, 0, 0]
        assert totals[3] > 0
        assert audit_prices(session) == []
