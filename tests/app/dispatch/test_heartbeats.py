"""Heartbeats change no index: their updates stay within their page (HOT), so that history does not make them slower."""

import pytest
from sqlalchemy import Engine, text

from app.db import forget_engines, get_engine, transaction
from app.dispatch.claim import claim
from app.dispatch.lease import renew_lease
from app.dispatch.worker_registry import heartbeat, register_worker
from tests.factories import make_account, make_queued_job

BEATS = 300
TABLES = ("takes", "workers", "jobs")


@pytest.mark.new_database
def test_the_heartbeats_of_a_long_take_are_hot_updates(engine: Engine, redis_url: str) -> None:
    with transaction() as session:
        account_id = make_account(session).id
        make_queued_job(session, account_id)
        register_worker(session, "worker-1", pools=["demo"], host="here", pid=1, device="cpu", facts={})
        current = claim(session, "worker-1", ["demo"])
    assert current is not None
    for beat in range(BEATS):
        with transaction() as session:
            renew_lease(session, current, step=beat, steps=BEATS, percent=100 * beat // BEATS)
        with transaction() as session:
            heartbeat(session, "worker-1", state="busy", take_id=current.take_id, resident_model="demo")
    # What a connection counted is seen once it has ended.
    forget_engines()
    with get_engine().connect() as connection:
        rows = connection.execute(text("SELECT relname, n_tup_hot_upd, n_tup_upd FROM pg_stat_user_tables"))
        counts = {name: (hot, updates) for name, hot, updates in rows if name in TABLES}
    for table in TABLES:
        hot, updates = counts[table]
        assert updates >= 90
        assert hot >= 0.9 * updates, table
