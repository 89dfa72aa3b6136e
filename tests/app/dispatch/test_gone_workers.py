"""The roster does not grow for ever: rows of worker processes that ended a day ago are removed."""

from datetime import timedelta

from sqlalchemy import Engine, select, update

from app.clock import lease_now
from app.db import transaction
from app.dispatch.retention import WORKERS_BATCH, chores, clean
from app.dispatch.worker_registry import register_worker
from app.jobs.queue_tables import Worker
from app.jobs.states import WorkerState

FACTS = {"pools": ["demo"], "host": "here", "pid": 1, "device": "cpu", "facts": {}}


def worker_ids() -> set[str]:
    with transaction() as session:
        return set(session.scalars(select(Worker.id)))


def test_workers_that_are_long_gone_are_removed_and_all_others_stay(engine: Engine, redis_url: str) -> None:
    with transaction() as session:
        for number in range(WORKERS_BATCH + 20):
            register_worker(session, f"old-{number}", **FACTS)  # type: ignore[arg-type]
        days = timedelta(days=2)
        session.execute(update(Worker).values(state=WorkerState.GONE, seen_at=lease_now(session) - days))
        for worker_id in ("gone-now", "silent", "idle"):
            register_worker(session, worker_id, **FACTS)  # type: ignore[arg-type]
        session.execute(update(Worker).where(Worker.id == "gone-now").values(state=WorkerState.GONE))
        session.execute(update(Worker).where(Worker.id == "silent").values(seen_at=lease_now(session) - days))
    assert clean(chores())["gone_workers"] == WORKERS_BATCH
    assert clean(chores())["gone_workers"] == 20
    assert worker_ids() == {"gone-now", "silent", "idle"}
