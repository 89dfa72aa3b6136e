"""Cancelling: takes that ended before it are delivered and paid, others are not, and nothing is paid twice."""

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.dispatch.claim import Claim
from app.errors import AppError
from app.jobs.queue_tables import Take
from app.wallet.hold import get_hold
from tests.ledger_simulation import Line

TWO = [{"prompt": "a", "seconds": 2}, {"prompt": "b", "seconds": 2}]


@pytest.fixture
def line(session: Session) -> Line:
    return Line(session)


def take(line: Line) -> Claim:
    lease = line.start()
    assert lease is not None
    return lease


def test_nothing_made_is_free_and_ends_at_once(line: Line) -> None:
    alice = line.open()
    job = line.order(alice, shots=TWO)
    line.cancel(alice, job.id)
    assert (line.job(job.id).state, line.receipt(job.id).total) == ("cancelled", 0)
    assert get_hold(line.session, job.id).state == "released"
    assert line.start() is None
    with pytest.raises(AppError) as refused:
        line.cancel(alice, job.id)
    assert refused.value.code == "already_final"
    line.check()


def test_only_takes_that_ended_before_the_cancel_are_paid(line: Line) -> None:
    alice = line.open()
    job = line.order(alice, shots=TWO)
    first, second = take(line), take(line)
    line.make(first)
    line.cancel(alice, job.id)
    assert (line.job(job.id).state, line.job(job.id).stage) == ("in_progress", "finishing")
    # The take that succeeds after the cancel finds its lease void, and is not billed.
    assert line.lost(lambda: line.make(second))
    assert line.cancel(alice, job.id).cancel_requested_at is not None, "a second wish changes nothing"
    finish = take(line)
    assert finish.kind == "finish"
    line.deliver(finish)
    result = line.job(job.id)
    assert (result.state, result.film and result.film["frames"]) == ("cancelled", 2 * 16)
    # 2 s at 0.90 x 0.65 x 0.75 = 0.8775
    assert line.receipt(job.id).total == 88
    assert line.posted(alice) == 100_000 - 88
    assert line.receipt(job.id).film_key == f"films/{finish.take_id}.mp4"
    line.check()


def test_once_finishing_it_is_too_late(line: Line) -> None:
    alice = line.open()
    job = line.order(alice, seconds=2)
    line.make(take(line))
    with pytest.raises(AppError) as refused:
        line.cancel(alice, job.id)
    assert refused.value.code == "too_late"
    line.work()
    assert (line.job(job.id).state, line.receipt(job.id).total) == ("completed", 88)
    line.check()


def test_a_cancelled_take_stops_rendering(line: Line) -> None:
    alice = line.open()
    job = line.order(alice, seconds=2)
    running = take(line)
    line.cancel(alice, job.id)
    states = line.session.scalars(select(Take.state).where(Take.job_id == job.id)).all()
    assert "running" not in states
    assert line.lost(lambda: line.make(running))
    assert line.lost(lambda: line.fail(running))
    assert line.lost(lambda: line.release(running))
    assert line.receipt(job.id).total == 0
    line.sweep()
    line.check()


def test_two_finishes_of_one_job(line: Line) -> None:
    """The first finisher stops responding and a second one is leased; the late one writes nothing."""
    alice = line.open()
    job = line.order(alice, seconds=2)
    line.make(take(line))
    silent = take(line)
    line.wait(seconds=60)
    line.sweep("lost_takes")
    second = take(line)
    assert second.unit_id == silent.unit_id
    assert second.fence > silent.fence
    line.deliver(second)
    assert line.lost(lambda: line.deliver(silent))
    assert line.receipt(job.id).film_key == f"films/{second.take_id}.mp4"
    assert line.posted(alice) == 100_000 - 88
    line.check()


def test_a_late_finisher_is_refused_before_the_sweeper_comes(line: Line) -> None:
    alice = line.open()
    job = line.order(alice, seconds=2)
    line.make(take(line))
    late = take(line)
    line.wait(seconds=60)
    assert line.lost(lambda: line.deliver(late))
    line.sweep()
    line.work()
    assert line.job(job.id).state == "completed"
    line.check()


def test_cancel_while_the_finisher_is_lost_is_still_too_late(line: Line) -> None:
    alice = line.open()
    job = line.order(alice, shots=TWO)
    for _ in range(2):
        line.make(take(line))
    take(line)
    line.wait(minutes=5)
    line.sweep()
    with pytest.raises(AppError) as refused:
        line.cancel(alice, job.id)
    assert refused.value.code == "too_late"
    line.work()
    assert line.job(job.id).state == "completed"
    line.check()


def test_somebody_else_cannot_cancel(line: Line) -> None:
    alice, bob = line.open("Alice"), line.open("Bob")
    job = line.order(alice, seconds=2)
    with pytest.raises(AppError) as refused:
        line.cancel(bob, job.id)
    assert refused.value.code == "not_found"
