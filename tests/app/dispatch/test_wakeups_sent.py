"""Doorbells on a real Redis: at most one ring lies there for each idle worker, however often anybody rings."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import Engine, update

from app import wakeups
from app.clock import now
from app.db import transaction
from app.dispatch.claim import claim
from app.dispatch.scheduler import wake_pools
from app.dispatch.worker_registry import register_worker, set_draining
from app.jobs.queue_tables import Unit
from app.redis_client import get_redis
from app.wakeups import KEY_PREFIX, queue_name, wakeups_waiting
from tests.api_client import World
from tests.factories import make_account, make_queued_job

POOL = "synthetic"


@pytest.fixture(autouse=True)
def redis(redis_url: str) -> Iterator[None]:
    """This run's own Redis: what an earlier test knew of another one is forgotten."""
    _forget()
    yield
    _forget()


def _forget() -> None:
    wakeups.get_redis.cache_clear()
    wakeups._sender.cache_clear()
    wakeups._away_until.clear()


def work_with(*names: str, pool: str = POOL, state: str = "idle") -> None:
    with transaction() as session:
        for name in names:
            register_worker(session, name, pools=[pool], host="here", pid=1, device="cpu", facts={}, state=state)


def queue(count: int) -> None:
    with transaction() as session:
        account = make_account(session)
        for _ in range(count):
            make_queued_job(session, account.id, pool=POOL)


def answer() -> None:
    """Take a ring away, as a worker does that answers it."""
    assert get_redis().rpop(f"{KEY_PREFIX}{queue_name(POOL)}") is not None


def test_a_bell_is_rung_once_for_each_idle_worker_and_never_more(engine: Engine) -> None:
    queue(5)
    assert wake_pools() == 0, "nobody would hear it"
    work_with("worker-1", "worker-2")
    work_with("worker-3", state="starting")
    work_with("worker-4", pool="finish")
    work_with("worker-5")
    with transaction() as session:
        set_draining(session, "worker-5")
    assert (wake_pools(), wakeups_waiting(POOL)) == (2, 2), "for two idle workers, not for five units"
    for _ in range(5):
        assert wake_pools() == 0, "both rings still lie there"
    answer()
    assert (wake_pools(), wakeups_waiting(POOL)) == (1, 2), "its worker is still idle, so that ring was lost"
    answer()
    with transaction() as session:
        assert claim(session, "worker-1", [POOL]) is not None
    assert (wake_pools(), wakeups_waiting(POOL)) == (0, 1), "who works needs no ring, and the other has one"


def test_there_are_no_more_rings_than_units_that_may_start(engine: Engine) -> None:
    work_with("worker-1", "worker-2", "worker-3")
    queue(2)
    with transaction() as session:
        later = now(session) + timedelta(hours=1)
        waits = session.query(Unit.id).filter_by(pool=POOL).limit(1).scalar()
        session.execute(update(Unit).where(Unit.id == waits).values(not_before=later))
    assert (wake_pools(), wakeups_waiting(POOL)) == (1, 1)


def test_orders_ring_once_where_a_ring_waits_already(world: World) -> None:
    for _ in range(3):
        assert world.post("/v1/videos", {"model": "synthetic", "prompt": "bars", "seconds": 1}).status_code == 200
    assert wakeups_waiting(POOL) == 1
    work_with("worker-1", "worker-2")
    assert (wake_pools(), wake_pools(), wakeups_waiting(POOL)) == (1, 0, 2)
