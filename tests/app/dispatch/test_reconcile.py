"""No accepted job is stuck for ever: every way in which a job's rows can disagree is put into the database, and
the scheduler's repairs bring the job to its one end, with one receipt and a clean audit."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import delete, update
from sqlalchemy.orm import Session

from app.clock import now
from app.dispatch.claim import Claim
from app.dispatch.reconcile import StalledJobScan, stalled_jobs
from app.jobs.queue_tables import Share, Take, Unit
from app.jobs.tables import Job, ReceiptRow
from tests.ledger_simulation import Line

SHOTS = [{"prompt": "one", "seconds": 1}, {"prompt": "two", "seconds": 12}]


@pytest.fixture
def line(session: Session) -> Line:
    return Line(session)


def begun(line: Line) -> tuple[Job, list[Claim]]:
    """A storyboard of two shots, the second of several segments: the first shot is made and the second runs."""
    job = line.order(line.open(), shots=SHOTS)
    first, second = line.start(), line.start()
    assert first is not None
    assert second is not None
    line.make(first)
    return job, [first, second]


def set_units(state: str, *, now_state: str | None = None, kind: str = "segment") -> Callable[[Line, str], None]:
    def do(line: Line, job_id: str) -> None:
        units = update(Unit).where(Unit.job_id == job_id, Unit.kind == kind)
        line.session.execute((units if now_state is None else units.where(Unit.state == now_state)).values(state=state))

    return do


def end_takes(line: Line, job_id: str) -> None:
    takes = update(Take).where(Take.job_id == job_id, Take.state == "running")
    line.session.execute(takes.values(state="released", ended_at=now(line.session)))


def miscount(number: int) -> Callable[[Line, str], None]:
    return lambda line, job_id: (
        line.session.execute(update(Job).where(Job.id == job_id).values(units_done=number)) and None
    )


def forget_shares(line: Line, job_id: str) -> None:
    line.session.execute(delete(Share))


def both(*breaks: Callable[[Line, str], None]) -> Callable[[Line, str], None]:
    def do(line: Line, job_id: str) -> None:
        for each in breaks:
            each(line, job_id)

    return do


# What is broken of a job that has begun. The job must end completed all the same.
BROKEN: dict[str, Callable[[Line, str], None]] = {
    "a unit runs without a take": end_takes,
    "a unit is ready while its take runs": set_units("ready", now_state="running"),
    "a unit is blocked while its take runs": set_units("blocked", now_state="running"),
    "a unit was dropped while its take runs": set_units("dropped", now_state="running"),
    "nothing of the next shot is ready": both(end_takes, set_units("blocked", now_state="running")),
    "what is left was dropped": both(
        end_takes, set_units("dropped", now_state="running"), set_units("dropped", now_state="blocked")
    ),
    "too few are counted as done": both(end_takes, set_units("ready", now_state="running"), miscount(0)),
    "too many are counted as done": both(end_takes, miscount(99)),
    "all are ready at once": both(
        end_takes, set_units("ready", now_state="running"), set_units("ready", now_state="blocked"), miscount(7)
    ),
    "no account has a share": both(end_takes, forget_shares),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_job_that_has_begun_comes_to_its_end(line: Line, broken: str) -> None:
    job, _ = begun(line)
    BROKEN[broken](line, job.id)
    line.session.commit()
    until_the_end(line, job.id, "completed")


# The film is whole or being joined.
BROKEN_FINISH: dict[str, Callable[[Line, str], None]] = {
    "the finish was never opened": lambda line, job_id: (
        line.session.execute(delete(Unit).where(Unit.job_id == job_id, Unit.kind == "finish")) and None
    ),
    "the finish was dropped": set_units("dropped", kind="finish"),
    "the finish is done but the job is not": set_units("done", kind="finish"),
    "the finish runs without a take": set_units("running", kind="finish"),
    "the finish is blocked": set_units("blocked", kind="finish"),
    "the stage was never moved": lambda line, job_id: (
        line.session.execute(update(Job).where(Job.id == job_id).values(stage="rendering", units_done=0)) and None
    ),
}


@pytest.mark.parametrize("broken", BROKEN_FINISH)
def test_a_job_whose_segments_are_made_comes_to_its_end(line: Line, broken: str) -> None:
    job, running = begun(line)
    line.make(running[1])
    while (lease := line.start(["synthetic"])) is not None:
        line.make(lease)
    BROKEN_FINISH[broken](line, job.id)
    line.session.commit()
    until_the_end(line, job.id, "completed")


def test_a_finish_that_was_opened_too_early_waits(line: Line) -> None:
    job, _ = begun(line)
    end_takes(line, job.id)
    unit = line.units(job)[0]
    row = {name: getattr(unit, name) for name in ("job_id", "account_id", "queued_at", "frames")}
    line.session.add(Unit(id="unit_early", kind="finish", pool="finish", model="finish", state="ready", **row))
    line.session.commit()
    line.sweep()
    assert line.start(["finish"]) is None
    until_the_end(line, job.id, "completed")


@pytest.mark.parametrize("has_clip", [True, False])
def test_a_half_done_cancel_is_completed(line: Line, has_clip: bool) -> None:
    """What was made before the cancel is delivered and paid; a job without any costs nothing."""
    alice = line.open()
    job = line.order(alice, shots=SHOTS)
    lease = line.start()
    assert lease is not None
    if has_clip:
        line.make(lease)
    wish = update(Job).where(Job.id == job.id).values(cancel_requested_at=now(line.session))
    line.session.execute(wish)
    end_takes(line, job.id)
    line.session.commit()
    until_the_end(line, job.id, "cancelled")
    assert (line.receipt(job.id).total > 0) == has_clip


def test_a_queued_job_without_a_unit_to_claim_is_found_by_the_scan(line: Line) -> None:
    alice = line.open()
    jobs = [line.order(alice, seconds=1) for _ in range(5)]
    line.session.execute(update(Unit).where(Unit.job_id == jobs[3].id).values(state="blocked"))
    line.session.commit()
    scan = StalledJobScan()
    assert [scan.next(line.session, limit=2) for _ in range(4)] == [[], [jobs[3].id], [], []]
    until_the_end(line, jobs[3].id, "completed")


def test_a_job_without_units_fails_and_costs_nothing(line: Line) -> None:
    job = line.order(line.open(), seconds=1)
    line.session.execute(delete(Unit).where(Unit.job_id == job.id))
    line.session.commit()
    until_the_end(line, job.id, "failed")
    assert line.receipt(job.id).total == 0


@pytest.mark.parametrize("left", ["take", "ready"])
def test_units_left_by_an_ended_job_are_removed(line: Line, left: str) -> None:
    alice = line.open()
    job = line.order(alice, seconds=1)
    lease = line.start()
    assert lease is not None
    line.cancel(alice, job.id)
    if left == "take":
        back = {"state": "running", "ended_at": None}
        line.session.execute(update(Take).where(Take.id == lease.take_id).values(**back))
    line.session.execute(update(Unit).where(Unit.job_id == job.id).values(state="ready"))
    line.session.commit()
    assert line.start() is None
    line.wait(seconds=60)
    line.sweep()
    assert {unit.state for unit in line.units(job)} == {"dropped"}
    assert line.session.query(Take).filter_by(state="running").count() == 0
    line.check()


def test_a_consistent_job_is_left_alone(line: Line) -> None:
    job, _ = begun(line)
    assert list(stalled_jobs(line.session, limit=10)) == []
    before = [(unit.id, unit.state) for unit in line.units(job)]
    assert line.sweep("stuck_stages") == {"stuck_stages": 0}
    assert [(unit.id, unit.state) for unit in line.units(job)] == before


def until_the_end(line: Line, job_id: str, state: str) -> None:
    """Let repairs and work alternate as they do in a service; the clock passes every lease and pause in between."""
    assert line.sweep("stuck_stages", "lost_takes")
    assert line.sweep("stuck_stages")["stuck_stages"] == 0, "a second look finds nothing more"
    for _ in range(3):
        line.wait(seconds=60)
        line.sweep()
        line.work()
    assert line.job(job_id).state == state
    assert line.session.query(ReceiptRow).filter_by(job_id=job_id).count() == 1
    assert line.session.query(Unit).filter(Unit.state.in_(("ready", "blocked", "running"))).count() == 0 or (
        state != "completed"
    )
    line.check()
    assert line.wait() - timedelta(seconds=180) > line.job(job_id).created_at
