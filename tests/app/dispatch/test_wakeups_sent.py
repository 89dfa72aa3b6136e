"""Wake-ups on a real Redis: at most one is queued for each idle worker, however often anybody sends one."""

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from queue import Queue
from threading import Event, Thread

import pytest
from sqlalchemy import Engine, text, update

from app import redis_client, wakeups
from app.clock import now
from app.db import transaction
from app.dispatch.claim import Claim, claim
from app.dispatch.lease import succeed_segment
from app.dispatch.scheduler import wake_pools
from app.dispatch.worker_registry import register_worker, set_draining
from app.jobs.queue_tables import Pool, Unit
from app.redis_client import get_redis
from app.wakeups import KEY_PREFIX, queue_name, wakeups_waiting
from tests.api_client import World
from tests.factories import make_account, make_queued_job
from tests.statement_count import end_segment

POOL = "synthetic"


@pytest.fixture(autouse=True)
def redis(redis_url: str) -> Iterator[None]:
    """This run's own Redis: the state of an earlier test's Redis is cleared."""
    _clear()
    yield
    _clear()


def _clear() -> None:
    redis_client.get_redis.cache_clear()
    wakeups._sender.cache_clear()
    redis_client._down_until.clear()


def add_workers(*names: str, pool: str = POOL, state: str = "idle") -> None:
    with transaction() as session:
        for name in names:
            register_worker(session, name, pools=[pool], host="here", pid=1, device="cpu", facts={}, state=state)


def queue(count: int, *, concurrency: int = 100) -> None:
    with transaction() as session:
        account = make_account(session)
        for _ in range(count):
            make_queued_job(session, account.id, pool=POOL, concurrency=concurrency)


def answer() -> None:
    """Remove a wake-up from the queue, as a worker that answers it does."""
    assert get_redis().rpop(f"{KEY_PREFIX}{queue_name(POOL)}") is not None


def test_one_wakeup_is_sent_for_each_idle_worker_and_never_more(engine: Engine) -> None:
    queue(5)
    assert wake_pools() == 0, "no worker would receive it"
    add_workers("worker-1", "worker-2")
    add_workers("worker-3", state="starting")
    add_workers("worker-4", pool="finish")
    add_workers("worker-5")
    with transaction() as session:
        set_draining(session, "worker-5")
    assert (wake_pools(), wakeups_waiting(POOL)) == (2, 2), "for two idle workers, not for five units"
    for _ in range(5):
        assert wake_pools() == 0, "both wake-ups are still queued"
    answer()
    assert (wake_pools(), wakeups_waiting(POOL)) == (1, 2), "its worker is still idle, so that wake-up was lost"
    answer()
    with transaction() as session:
        assert claim(session, "worker-1", [POOL]) is not None
    assert (wake_pools(), wakeups_waiting(POOL)) == (0, 1), "a busy worker needs none, and the other has one"


def test_there_are_no_more_wakeups_than_units_that_may_start(engine: Engine) -> None:
    add_workers("worker-1", "worker-2", "worker-3")
    queue(2)
    with transaction() as session:
        later = now(session) + timedelta(hours=1)
        waits = session.query(Unit.id).filter_by(pool=POOL).limit(1).scalar()
        session.execute(update(Unit).where(Unit.id == waits).values(not_before=later))
    assert (wake_pools(), wakeups_waiting(POOL)) == (1, 1)


def take_next(engine: Engine) -> Claim:
    with transaction(engine) as session:
        lease = claim(session, "worker-1", [POOL])
    assert lease is not None
    return lease


def test_a_claim_wakes_the_next_worker_only_for_what_may_start(engine: Engine) -> None:
    add_workers("worker-1", "worker-2")
    queue(3, concurrency=2)
    first = take_next(engine)
    assert wakeups_waiting(POOL) == 1
    answer()
    second = take_next(engine)
    assert wakeups_waiting(POOL) == 0, "the account is at its limit"
    end_segment(engine, first)
    assert wakeups_waiting(POOL) == 1, "its last unit may start"
    answer()
    third = take_next(engine)
    for lease in (second, third):
        end_segment(engine, lease)
    assert wakeups_waiting(POOL) == 0, "nothing is left"


def test_orders_send_no_wakeup_while_one_is_queued(world: World) -> None:
    for _ in range(3):
        assert world.post("/v1/videos", {"model": "synthetic", "prompt": "bars", "seconds": 1}).status_code == 200
    assert wakeups_waiting(POOL) == 1
    add_workers("worker-1", "worker-2")
    assert (wake_pools(), wake_pools(), wakeups_waiting(POOL)) == (1, 0, 2)


def test_nobody_is_woken_for_an_account_at_its_limit(engine: Engine) -> None:
    add_workers("worker-0", "worker-1", "worker-2", "worker-3")
    queue(10, concurrency=2)
    assert wake_pools() == 2, "as many as the account may start"
    for _ in range(2):
        answer()
    with transaction() as session:
        assert claim(session, "worker-0", [POOL]) is not None
    assert (wake_pools(), wakeups_waiting(POOL)) == (0, 1), "the claim has woken the next worker"
    answer()
    with transaction() as session:
        assert claim(session, "worker-1", [POOL]) is not None
    assert wake_pools() == 0


def wait_for_lock(engine: Engine, pid: int) -> None:
    """Wait until a connection waits for a lock of another one."""
    waiting = text("SELECT FROM pg_stat_activity WHERE pid = :pid AND wait_event_type = 'Lock'")
    while True:
        with engine.begin() as connection:
            if connection.execute(waiting, {"pid": pid}).one_or_none() is not None:
                return


def test_the_end_of_a_segment_wakes_for_an_order_that_it_waited_for(engine: Engine) -> None:
    """The order holds the account's share; its own wake-up is answered before the end has made room for it."""
    with transaction() as session:
        account = make_account(session).id
        make_queued_job(session, account, pool=POOL, concurrency=1)
    with transaction() as session:
        lease = claim(session, "worker-1", [POOL])
    assert lease is not None
    woken: list[str] = []
    pids, is_written, is_looked = Queue[int](), Event(), Event()

    def end() -> None:
        with transaction() as session:
            session.info["wake"] = woken.append
            pids.put(session.connection().exec_driver_sql("SELECT pg_backend_pid()").scalar_one())
            succeed_segment(session, lease, clip_key="clip.mp4", handover_key=None, meter={"gpu_seconds": "1"})
            is_written.set()
            assert is_looked.wait(30)

    thread = Thread(target=end)
    with transaction() as order:
        order.info["wake"] = lambda _pool: None
        make_queued_job(order, account, pool=POOL, concurrency=1)
        thread.start()
        wait_for_lock(engine, pids.get(timeout=30))
    assert is_written.wait(30)
    with transaction() as session:
        assert claim(session, "worker-2", [POOL]) is None, "the answer to the order's wake-up"
    is_looked.set()
    thread.join(30)
    assert POOL in woken


def test_the_end_of_a_segment_wakes_the_other_pools_of_its_account(engine: Engine) -> None:
    with transaction() as session:
        account = make_account(session).id
        make_queued_job(session, account, pool="demo", concurrency=1)
    with transaction() as session:
        lease = claim(session, "worker-1", ["demo"])
        make_queued_job(session, account, pool="other", concurrency=1)
        # Somebody has claimed there before.
        session.add(Pool(name="other", vclock=Decimal(0)))
    assert lease is not None
    woken: list[str] = []
    with transaction() as session:
        session.info["wake"] = woken.append
        succeed_segment(session, lease, clip_key="clip.mp4", handover_key=None, meter={"gpu_seconds": "1"})
    assert "other" in woken
