"""A worker that no wake-up reaches looks for work by itself, one take at a time."""

import threading
from pathlib import Path

import pytest
from sqlalchemy import Engine

from app.db import transaction
from app.jobs.plan import TEST_POOL
from tests.factories import make_account, make_queued_job
from tests.workers.worker_processes import ObservedWorker, takes, wait_until

pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture(autouse=True)
def quick_and_local(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("workers.worker_loop.IDLE_POLL_SECONDS", 0.05)
    monkeypatch.setenv("CINEMETER_DEVICE", "cpu")


def queue(engine: Engine, count: int) -> None:
    with transaction(engine) as session:
        account = make_account(session)
        for _ in range(count):
            make_queued_job(session, account.id, pool=TEST_POOL)


def test_an_idle_worker_finds_work_without_a_wake_up(engine: Engine) -> None:
    worker = ObservedWorker([TEST_POOL])
    with worker.opened():
        worker.warm_up()
        queue(engine, 1)
        wait_until(lambda: [each.state for each in takes()] == ["succeeded"], "nobody sent a wake-up")


def test_a_wake_up_beside_a_take_that_was_begun_without_one_waits_for_it(engine: Engine) -> None:
    threads: list[int] = []
    rendering, may_go_on = threading.Event(), threading.Event()

    def at_step(unit_id: str, step: int) -> None:
        threads.append(threading.get_ident())
        rendering.set()
        assert may_go_on.wait(60)

    worker = ObservedWorker([TEST_POOL], at_step)
    with worker.opened():
        worker.warm_up()
        queue(engine, 2)
        assert rendering.wait(60), "the worker began by itself"
        wake_up = threading.Thread(target=worker.work)
        wake_up.start()
        assert [each.state for each in takes()] == ["running"], "one take at a time"
        may_go_on.set()
        wake_up.join(60)
        wait_until(lambda: [each.state for each in takes()] == ["succeeded"] * 2, "both films are rendered")
    assert len(set(threads)) == 1, "a device is used from one thread alone"


def test_a_worker_that_closes_ends_the_take_that_it_began_by_itself(engine: Engine) -> None:
    rendering, may_go_on = threading.Event(), threading.Event()

    def at_step(unit_id: str, step: int) -> None:
        rendering.set()
        assert may_go_on.wait(60)

    worker = ObservedWorker([TEST_POOL], at_step)
    worker.open()
    worker.warm_up()
    queue(engine, 2)
    assert rendering.wait(60)
    closing = threading.Thread(target=worker.close)
    closing.start()
    wait_until(worker._closing.is_set, "it was told to close")
    may_go_on.set()
    closing.join(60)
    assert not closing.is_alive()
    assert [each.state for each in takes()] == ["succeeded"], "it ended what it had begun, and began nothing more"
