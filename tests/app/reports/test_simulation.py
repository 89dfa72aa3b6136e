"""A simulation prices the jobs that really were, with the function that charged them."""

from datetime import timedelta

import pytest
from sqlalchemy.orm import Session

from app.clock import now
from app.errors import AppError
from app.prices.books import draft_book
from app.prices.find import book_at
from app.reports.simulation import simulate_book
from pricing.money import Money
from pricing.simulation_result import Simulation
from tests.app.prices.price_documents import AUTHOR, book_text
from tests.ledger_simulation import Line


@pytest.fixture
def line(session: Session) -> Line:
    return Line(session)


def simulate(line: Line, toml: str | None = None) -> Simulation:
    session = line.session
    stored = book_at(session, now(session)) if toml is None else line.act(lambda: draft_book(session, AUTHOR, toml))
    moment = now(session)
    return simulate_book(session, stored.book, since=moment - timedelta(days=40), until=moment + timedelta(days=1))


def history(line: Line) -> dict[str, int]:
    """Jobs of every kind of end, and what each account was charged."""
    alice, bob = line.open("Alice"), line.open("Bob", membership="studio")
    line.order(alice, seconds=5)
    line.order(alice, seconds=5, service_tier="flex")
    line.order(alice, seconds=7, resolution="1080P", service_tier="priority")
    # A studio has 60 free seconds a month; the second film is paid.
    line.order(bob, seconds=57)
    line.order(bob, seconds=13)
    line.work()
    line.wait(hours=1)
    # One that fails, one that is cancelled half way, one that starts too late, one that nobody starts.
    line.order(alice, seconds=3)
    claim = line.start()
    assert claim is not None
    line.fail(claim)
    half = line.order(bob, shots=[{"prompt": "a", "seconds": 2}, {"prompt": "b", "seconds": 3}])
    claim = line.start()
    assert claim is not None
    line.make(claim)
    line.cancel(bob, half.id)
    line.work()
    line.order(alice, seconds=4, service_tier="priority")
    line.wait(minutes=30)
    line.work()
    line.order(alice, seconds=4, service_tier="flex")
    line.wait(hours=30)
    line.sweep("past_deadlines")
    line.check()
    return {caller.account_id: 100_000 - line.posted(caller) for caller in (alice, bob)}


def test_the_book_in_force_gives_what_was_charged(line: Line) -> None:
    charged = history(line)
    outcome = simulate(line)
    assert outcome.whole.before == outcome.whole.after == Money(sum(charged.values()), "CNY")
    assert (outcome.whole.jobs, outcome.winners, outcome.losers, outcome.refused) == (9, (), (), ())
    assert set(outcome.by_membership) == {"professional", "studio"}
    assert set(outcome.by_resolution) == {"720P", "1080P"}
    assert set(outcome.by_model) == {"synthetic"}
    # Each take of the test took 1.5 GPU-seconds; the one that failed had no meter and counts by the clock.
    assert outcome.gpu_seconds >= 9
    assert outcome.margin_before == outcome.whole.before - outcome.cost


def test_the_margin_counts_takes_that_nobody_pays_for(line: Line) -> None:
    """A take that a cancel voids held its GPU until then; a finish that is lost held none."""
    alice = line.open()
    job = line.order(alice, shots=[{"prompt": "a", "seconds": 2}, {"prompt": "b", "seconds": 2}])
    first, second = line.start(), line.start()
    assert first is not None
    assert second is not None
    line.make(first, gpu_seconds="1.500")
    line.wait(seconds=30)
    line.cancel(alice, job.id)
    assert line.start() is not None
    line.wait(minutes=10)
    line.sweep()
    line.work()
    assert line.receipt(job.id).outcome == "cancelled"
    assert 31_500 <= line.receipt(job.id).gpu_milliseconds < 32_000
    assert 31 < simulate(line).gpu_seconds < 32
    line.check()


def test_a_dearer_draft_names_who_would_pay_more(line: Line) -> None:
    charged = history(line)
    text = book_text("dearer").replace('per_second = "0.90"', 'per_second = "1.80"')
    # Its examples no longer hold; a draft may be looked at all the same.
    outcome = simulate(line, text)
    assert outcome.whole.after > outcome.whole.before
    assert {loser.account for loser in outcome.losers} == set(charged)
    assert all(loser.before == Money(charged[loser.account], "CNY") for loser in outcome.losers)


def test_test_jobs_and_other_periods_do_not_count(line: Line) -> None:
    tester = line.open("Tess", test=True)
    line.order(tester, seconds=5)
    line.work()
    assert simulate(line).whole.jobs == 0
    moment = now(line.session)
    book = book_at(line.session, moment).book
    with pytest.raises(AppError, match="ends after"):
        simulate_book(line.session, book, since=moment, until=moment)
