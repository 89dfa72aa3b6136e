"""What waits in a pool is read when its snapshot changes, and compared with a job's turn as the dispatcher does."""

from datetime import timedelta
from math import ceil, floor
from random import Random

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.orm import Session

from app.clock import now
from app.dispatch import waiting_work
from app.dispatch.eta import forecast
from app.dispatch.queue_snapshot import refresh_queue_snapshot
from app.dispatch.waiting_work import EPSILON, Turn, WaitingWork
from app.dispatch.worker_registry import register_worker
from tests.factories import make_account, make_queued_job

Row = tuple[int, str, int, int, float, float, int, float, float]


def expected(rows: list[Row], turn: Turn) -> tuple[int, float, float]:
    """Return jobs and seconds before a turn, by the rule itself, one queue after the other."""
    jobs, p50, p90 = 0, 0.0, 0.0
    for priority, account, units, queued, seconds, slow_seconds, oldest, vtime, length in rows:
        if account == turn.account_id or priority > turn.priority:
            continue
        begun: float = units
        if priority == turn.priority:
            if vtime > turn.at + EPSILON:
                begun = 0
            elif length > 0:
                place = (turn.at - vtime) / length
                begun = min(units, floor(place + EPSILON) + 1 if oldest < turn.queued_us else ceil(place - EPSILON))
        jobs += ceil(queued * begun / units - EPSILON)
        p50 += seconds * begun / units
        p90 += slow_seconds * begun / units
    return jobs, p50, p90


@pytest.mark.parametrize("seed", range(20))
def test_arrays_say_what_the_rule_says(seed: int) -> None:
    random = Random(seed)
    rows: list[Row] = []
    for number in range(random.choice((0, 1, 2, 40))):
        units = random.randint(1, 30)
        jobs, seconds = random.randint(1, units), random.choice((0.0, 4.0, random.random() * 90))
        place = (random.randint(0, 2), f"acct_{number % 15}")
        rows.append(
            (*place, units, jobs, seconds, seconds * 2, random.randint(1, 9), random.randint(0, 8) / 2, seconds / units)
        )
    for _ in range(10):
        turn = Turn(
            f"acct_{random.randint(0, 20)}", random.randint(0, 2), random.randint(0, 10) / 2, random.randint(1, 9)
        )
        ahead = WaitingWork(rows).ahead_of(turn)
        jobs, p50, p90 = expected(rows, turn)
        assert (ahead.jobs, ahead.p50, ahead.p90) == (jobs, pytest.approx(p50), pytest.approx(p90))


def test_a_queue_is_read_again_when_its_snapshot_changes(
    session: Session, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting_work, "KEPT_SECONDS", 1000.0)
    alice, bob = make_account(session), make_account(session, "Bob")
    job = make_queued_job(session, alice.id)
    register_worker(session, "worker-1", pools=["demo", "finish"], host="here", pid=1, device="cpu", facts={})
    reads: list[str] = []
    event.listen(engine, "before_cursor_execute", see := lambda *facts: reads.append(facts[2]))

    def position() -> tuple[int | None, int]:
        """Return a job's position, and how often the queue of its pool was read for it."""
        reads.clear()
        return forecast(session, job).position, sum("oldest_us" in sql for sql in reads)

    try:
        refresh_queue_snapshot(session)
        assert position() == (0, 1)
        assert position() == (0, 0)
        make_queued_job(session, bob.id, at=now(session) - timedelta(minutes=5))
        assert position() == (0, 0)
        refresh_queue_snapshot(session)
        assert position() == (1, 1)
        session.execute(text("UPDATE units SET state = 'dropped' WHERE account_id = :bob"), {"bob": bob.id})
        refresh_queue_snapshot(session)
        assert position() == (0, 1)
        refresh_queue_snapshot(session)
        assert position() == (0, 0), "nothing has changed"
        monkeypatch.setattr(waiting_work, "KEPT_SECONDS", 0.0)
        assert position() == (0, 1), "virtual times change without the snapshot"
    finally:
        event.remove(engine, "before_cursor_execute", see)
