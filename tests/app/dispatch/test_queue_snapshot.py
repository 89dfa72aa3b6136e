"""Forecasts are answered from a snapshot of the queue: they read no waiting unit, however many there are."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.orm import Session

from app.clock import now
from app.dispatch.eta import forecast, forecasts
from app.dispatch.queue_snapshot import PERIOD_SECONDS, SnapshotTimer, refresh_queue_snapshot
from app.dispatch.worker_registry import register_worker
from tests.api_client import World
from tests.factories import make_account, make_queued_job, make_spec

ORDER = {"model": "synthetic", "prompt": "bars", "seconds": 5, "resolution": "720P"}


def test_a_forecast_is_as_old_as_the_snapshot(session: Session) -> None:
    alice, bob = make_account(session), make_account(session, "Bob")
    job = make_queued_job(session, alice.id)
    register_worker(session, "worker-1", pools=["demo", "finish"], host="here", pid=1, device="cpu", facts={})
    refresh_queue_snapshot(session)
    before = forecast(session, job)
    for number in range(5):
        make_queued_job(session, bob.id, spec=make_spec(tier="priority"), at=now(session) - timedelta(seconds=number))
    assert forecast(session, job) == before, "what came since is not read"
    refresh_queue_snapshot(session)
    assert forecast(session, job).position == 5


@pytest.mark.parametrize("jobs", [1, 2, 16, 17, 200])
def test_a_place_in_a_long_queue_of_ones_own_is_found_between_marks(session: Session, jobs: int) -> None:
    alice, moment = make_account(session), now(session)
    line = [make_queued_job(session, alice.id, at=moment - timedelta(seconds=jobs - n)) for n in range(jobs)]
    refresh_queue_snapshot(session)
    outlooks = forecasts(session, line)
    places = [outlooks[job.id].position for job in line]
    assert places == list(range(jobs)), "evenly spaced jobs are exactly between their marks"
    marks = session.execute(text("SELECT jsonb_array_length(marks) FROM queue_snapshots")).scalar_one()
    assert marks == min(jobs, 16)


def test_a_refresh_writes_only_what_has_changed(session: Session) -> None:
    alice, bob = make_account(session), make_account(session, "Bob")
    for account in (alice, bob):
        make_queued_job(session, account.id)
    refresh_queue_snapshot(session)
    rows = text("SELECT account_id, CAST(ctid AS text) FROM queue_snapshots")
    first = dict(session.execute(rows).all())
    make_queued_job(session, alice.id)
    refresh_queue_snapshot(session)
    second = dict(session.execute(rows).all())
    assert first[bob.id] == second[bob.id]
    assert first[alice.id] != second[alice.id]
    session.execute(text("UPDATE units SET state = 'dropped'"))
    refresh_queue_snapshot(session)
    assert not session.execute(rows).all()


def test_a_slow_snapshot_is_made_less_often() -> None:
    clock = [0.0]
    timer = SnapshotTimer(lambda: clock[0])

    def lasting(seconds: float) -> Callable[[], None]:
        def refresh() -> None:
            clock[0] += seconds

        return refresh

    assert timer.run(lasting(0.01))
    assert not timer.run(lasting(0.01))
    clock[0] = PERIOD_SECONDS
    assert timer.run(lasting(2.0))
    clock[0] = 5.0
    assert not timer.run(lasting(2.0)), "two seconds are a fifth of ten"
    clock[0] = 11.0
    assert timer.run(lasting(2.0))


def test_an_order_is_committed_before_its_forecast_is_read(world: World, engine: Engine) -> None:
    log: list[str] = []

    def statement(_connection: Connection, _cursor: object, sql: str, *_: object) -> None:
        log.append("forecast" if "queue_snapshots" in sql or "workers" in sql else "other")
        if "wallets SET held" in sql:
            log[-1] = "hold"

    def commit(_connection: Connection) -> None:
        log.append("commit")

    event.listen(engine, "before_cursor_execute", statement)
    event.listen(engine, "commit", commit)
    try:
        assert world.post("/v1/videos", ORDER).status_code == 200
    finally:
        event.remove(engine, "before_cursor_execute", statement)
        event.remove(engine, "commit", commit)
    assert log.index("hold") < log.index("commit") < log.index("forecast")


def test_an_order_whose_forecast_fails_is_answered_all_the_same(world: World, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE queue_snapshots RENAME TO queue_snapshots_away"))
    answer = world.post("/v1/videos", ORDER)
    assert (answer.status_code, answer.json()["status"]) == (200, "queued")
    assert answer.json().get("eta") is None
