"""What service tiers promise: priority starts in time or its line drops; flex starts within a day or costs nothing."""

from datetime import timedelta

import pytest
from sqlalchemy.orm import Session

from app.clock import now
from app.jobs.queue_tables import Unit
from app.jobs.tables import Job
from app.wallet.balance import balance
from app.wallet.hold import get_hold
from tests.api_client import World
from tests.ledger_simulation import Line

# 10 s of 720P for a professional: 4.3875 standard, 6.58 priority, 2.19 flex.
STANDARD, PRIORITY, FLEX = 439, 658, 219


@pytest.fixture
def line(session: Session) -> Line:
    return Line(session)


def test_priority_that_starts_in_time_is_paid_as_quoted(line: Line) -> None:
    alice = line.open()
    job = line.order(alice, seconds=10, service_tier="priority")
    assert job.start_by is not None
    line.work()
    assert line.receipt(job.id).total == PRIORITY
    line.check()


def test_a_quote_carries_the_promise_of_its_tier_and_the_order_keeps_it(world: World) -> None:
    """The promise counts from the order: a quote that is redeemed later is not already broken."""
    fields = {"model": "synthetic", "prompt": "bars", "seconds": 2}
    for tier, names, length in (("priority", ["start_by"], 600), ("flex", ["not_after"], 86_400), ("standard", [], 0)):
        order = {**fields, "service_tier": tier}
        quote = world.post("/v1/videos/quotes", order).json()
        video = world.post("/v1/videos", {**order, "quote_id": quote["id"]}).json()
        estimate = world.post("/v1/videos/estimates", order).json()
        for name in ("start_by", "not_after"):
            if name not in names:
                assert quote[name] is estimate[name] is video[name] is None, (tier, name)
                continue
            assert 0 <= video[name] - quote[name] <= 60
            assert abs(estimate[name] - quote[name]) <= 60
            assert quote[name] == quote["expires_at"] - 900 + length
            assert abs(video[name] - video["created_at"] - length) <= 1
    own = world.post("/v1/videos/quotes", {**fields, "service_tier": "flex", "expires_after": 60}).json()
    assert own["not_after"] == own["expires_at"] - 900 + 60


def test_the_line_of_a_missed_start_drops(line: Line) -> None:
    alice = line.open()
    job = line.order(alice, seconds=10, service_tier="priority")
    assert job.start_by is not None
    line.wait(seconds=(job.start_by - now(line.session)).total_seconds() + 1)
    line.work()
    receipt = line.receipt(job.id)
    assert (receipt.quoted, receipt.total) == (PRIORITY, STANDARD)
    assert "service_tier" not in receipt.body.partition('"lines"')[2].partition("]")[0]
    line.check()


def test_a_start_counts_from_the_first_lease(line: Line) -> None:
    """It started in time; that its worker was lost later is another matter."""
    alice = line.open()
    job = line.order(alice, seconds=10, service_tier="priority")
    assert line.start() is not None
    line.wait(hours=1)
    line.sweep()
    line.work()
    assert line.receipt(job.id).total == PRIORITY
    line.check()


def test_flex_that_nobody_starts_expires_free(line: Line) -> None:
    alice = line.open()
    job = line.order(alice, seconds=10, service_tier="flex")
    line.wait(hours=23, minutes=59)
    line.sweep("past_deadlines")
    assert line.job(job.id).state == "queued"
    line.wait(minutes=2)
    line.sweep("past_deadlines")
    assert (line.job(job.id).state, line.receipt(job.id).total) == ("expired", 0)
    assert get_hold(line.session, job.id).state == "released"
    assert line.start() is None
    line.check()


def test_flex_near_its_deadline_is_promoted(line: Line) -> None:
    alice, bob = line.open("Alice"), line.open("Bob")
    flex = line.order(alice, seconds=1, service_tier="flex")
    line.wait(hours=1)
    standard = line.order(bob, seconds=1)
    first = line.start()
    assert first is not None
    assert first.job_id == standard.id, "flex takes idle capacity only"
    line.wait(hours=21, minutes=30)
    line.sweep("lost_takes", "flex_promotions")
    assert line.session.query(Unit).filter_by(job_id=flex.id).one().priority == 1


def test_flex_leased_at_the_last_second_and_then_lost(line: Line) -> None:
    """It has started, so it is made: standard class from its first lease on, at the flex price."""
    alice = line.open()
    job = line.order(alice, seconds=10, service_tier="flex")
    line.wait(hours=23, minutes=59, seconds=59)
    lease = line.start()
    assert lease is not None
    line.wait(minutes=10)
    line.sweep()
    assert line.lost(lambda: line.make(lease))
    assert line.job(job.id).state == "in_progress"
    assert {unit.priority for unit in line.units(line.job(job.id))} == {1}
    line.work()
    assert (line.job(job.id).state, line.receipt(job.id).total) == ("completed", FLEX)
    line.check()


def test_expires_after_ends_what_has_not_started(line: Line) -> None:
    alice = line.open()
    job = line.order(alice, seconds=10, expires_after=60)
    line.wait(seconds=61)
    line.sweep()
    assert line.job(job.id).state == "expired"
    line.check()


@pytest.mark.parametrize("after", [1, 60, 7200, 7201, 22 * 3600, 24 * 3600 - 1, 24 * 3600, 172_800])
def test_a_short_deadline_buys_flex_no_better_class(line: Line, after: int) -> None:
    """Whatever the caller asks for, the class is the tier's until two hours before the tier's own deadline."""
    alice, bob = line.open("Alice"), line.open("Bob")
    before = balance(line.session, alice.account_id)
    flex = line.order(alice, seconds=10, service_tier="flex", expires_after=after)
    assert flex.not_after == flex.created_at + timedelta(seconds=min(after, 24 * 3600))
    assert flex.promote_at == flex.created_at + timedelta(hours=22)
    promoted = min(after, 22 * 3600)
    for moment in (0.0, promoted / 2, promoted - 0.5):
        reach(line, flex, moment)
        line.sweep("flex_promotions", "past_deadlines")
        assert classes(line, flex) == {2}
        standard = line.order(bob, seconds=1)
        lease = line.start()
        assert lease is not None
        assert lease.job_id == standard.id, "a standard order that comes later goes first all the same"
        line.release(lease)
        line.cancel(bob, standard.id)
    reach(line, flex, min(after, 24 * 3600))
    assert line.start() is None, "a claim at its deadline expires it, without waiting for the scheduler"
    ended = line.job(flex.id)
    assert (ended.state, line.receipt(flex.id).total) == ("expired", 0)
    assert get_hold(line.session, flex.id).state == "released"
    assert balance(line.session, alice.account_id) == before, "all that was held is free again"
    line.check()


def test_a_redeemed_quote_keeps_flex_in_its_class_too(line: Line) -> None:
    alice = line.open()
    fields = {"seconds": 10, "service_tier": "flex", "expires_after": 60}
    quote = line.quote(alice, **fields)
    job = line.order(alice, **fields, quote_id=quote.id)
    assert job.not_after == job.created_at + timedelta(seconds=60)
    line.wait(seconds=59)
    line.sweep()
    assert (line.job(job.id).state, classes(line, job)) == ("queued", {2})
    line.wait(seconds=1)
    line.sweep()
    assert line.job(job.id).state == "expired"
    line.check()


def reach(line: Line, job: Job, seconds: float) -> None:
    """Let time pass until so long after the job was accepted."""
    line.wait(seconds=max(0.0, (job.created_at + timedelta(seconds=seconds) - now(line.session)).total_seconds()))


def classes(line: Line, job: Job) -> set[int]:
    line.session.expire_all()
    return {unit.priority for unit in line.units(job)}
