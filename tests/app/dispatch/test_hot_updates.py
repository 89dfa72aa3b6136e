"""Heartbeats change only columns that no index has, so that PostgreSQL writes no index for them."""

import pytest
from sqlalchemy import Engine, text

from app.db import transaction
from app.dispatch.claim import claim
from app.dispatch.lease import renew_lease
from app.dispatch.worker_registry import heartbeat
from tests.factories import make_account, make_queued_job, make_worker

BEATS = 60


@pytest.mark.new_database
def test_most_updates_of_takes_and_workers_are_hot(engine: Engine, redis_url: str) -> None:
    with transaction() as session:
        make_queued_job(session, make_account(session).id)
        make_worker(session, "worker-1")
    with transaction() as session:
        lease = claim(session, "worker-1", ["demo"])
    assert lease is not None
    for step in range(1, BEATS + 1):
        with transaction() as session:
            renew_lease(session, lease, step=step, steps=BEATS)
        with transaction() as session:
            heartbeat(session, "worker-1", state="busy", take_id=lease.take_id, resident_model="demo")
            session.execute(text("SELECT pg_stat_force_next_flush()"))
    counts = text("SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = :table")
    for table in ("takes", "workers"):
        with transaction() as session:
            updates, hot = session.execute(counts, {"table": table}).one()
        assert updates >= BEATS
        assert hot >= 0.9 * updates, f"{hot} of {updates} updates of {table}"
