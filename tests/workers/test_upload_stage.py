"""The upload of one take during the render of the next: a real worker, a real database, and a slow store."""

import threading
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, update

from app.catalog.models import load_catalog
from app.clock import now
from app.db import transaction
from app.dispatch.lease import lose_take
from app.dispatch.worker_registry import set_draining
from app.jobs.queue_tables import Take, Unit, Worker
from app.settings import get_settings
from app.storage import StorageError
from tests.api_client import World
from tests.factories import make_account, make_queued_job, make_spec, units_of
from tests.workers.conftest import Gate
from tests.workers.worker_processes import ObservedWorker, take_of, takes, unit, wait_until
from workers.engine import EnginePoisoned
from workers.engine.memory_watchdog import MemoryGrowth
from workers.engine.synthetic import SyntheticEngine

POOL = ["synthetic"]
pytestmark = pytest.mark.usefixtures("redis_url")


def order(*seconds: int, concurrency: int = 100, account: str | None = None) -> list[str]:
    """Queue a storyboard with shots of these lengths; return its segments in order."""
    with transaction() as session:
        owner = account or make_account(session).id
        spec = make_spec(seconds=seconds, model="synthetic", fps=16)
        job = make_queued_job(session, owner, spec=spec, pool="synthetic", concurrency=concurrency)
        return [each.id for each in units_of(session, job) if each.kind == "segment"]


def states(ids: list[str]) -> list[str]:
    return [unit(each).state for each in ids]


def test_the_next_take_is_denoised_before_the_upload_of_the_last_one_ends(engine: Engine, gate: Gate) -> None:
    first, second = order(1, 2)
    worker = ObservedWorker(POOL)
    met: list[str] = []

    def slow(key: str) -> None:
        met.append(key)
        if len(met) == 1:
            wait_until(lambda: second in worker.begun, "the next take is denoised while this one is uploaded")
            assert takes(first)[0].state == "running", "a take that is being uploaded still counts as running"

    gate(slow)
    with worker.opened():
        worker.work()
    assert states([first, second]) == ["done", "done"]
    one, two = takes()
    assert (one.unit_id, two.unit_id) == (first, second)
    assert one.ended_at is not None
    assert two.started_at < one.ended_at
    # Each take has the meter of its own render, though the engine had gone on.
    assert [each.meter["frames"] for each in (one, two) if each.meter] == [16, 32]
    assert [each.meter["steps"] for each in (one, two) if each.meter] == [8, 8]


def test_the_worker_holds_one_take_back_while_one_is_uploaded(engine: Engine, gate: Gate) -> None:
    ids = order(1, 1, 1, 1)
    worker = ObservedWorker(POOL)
    uploading: list[int] = []

    def slow(key: str) -> None:
        if not uploading:
            wait_until(lambda: len(worker.begun) == 2, "the second take is denoised")
        uploading.append(sum(take.state == "running" for take in takes()))

    gate(slow)
    with worker.opened():
        worker.work()
    assert states(ids) == ["done"] * 4
    assert max(uploading) <= 2, "a slow store never makes a worker hold more than two leases"


def test_an_upload_counts_against_the_concurrency_of_its_account(engine: Engine, gate: Gate) -> None:
    with transaction() as session:
        owner, other = make_account(session).id, make_account(session, "Bob").id
    mine = order(1, 1, concurrency=1, account=owner)
    theirs = order(1, account=other)
    worker = ObservedWorker(POOL)
    met: list[str] = []

    def slow(key: str) -> None:
        met.append(key)
        if len(met) == 1:
            wait_until(lambda: theirs[0] in worker.begun, "the other account's take is denoised")
            assert mine[1] not in worker.begun

    gate(slow)
    with worker.opened():
        worker.work()
    assert worker.begun == [mine[0], theirs[0], mine[1]]
    assert states(mine + theirs) == ["done"] * 3


def test_an_upload_that_fails_is_a_take_that_failed_and_harms_no_other(engine: Engine, gate: Gate) -> None:
    first, second = order(1, 1)
    worker = ObservedWorker(POOL)

    def broken(key: str) -> None:
        if take_of(key) == takes(first)[0].id:
            wait_until(lambda: second in worker.begun, "the next take is denoised")
            raise StorageError("The bucket is gone.")

    storage = gate(broken)
    with worker.opened():
        worker.work()
    failed = takes(first)[0]
    assert (failed.state, failed.error_code, failed.clip_key) == ("failed", "storage_failed", None)
    assert failed.meter is not None
    assert failed.gpu_seconds == round(Decimal(str(failed.meter["gpu_seconds"])), 3), "not the time of its upload"
    again = unit(first)
    assert (again.state, again.takes_error) == ("ready", 0), "it is no error of its own, and is tried again"
    assert again.not_before is not None
    assert unit(second).state == "done"
    assert failed.id not in {take_of(key) for key in storage.uploads}


def test_a_lease_that_is_lost_during_the_upload_discards_the_take(engine: Engine, gate: Gate) -> None:
    [only] = order(1)

    def lose(key: str) -> None:
        if len(takes(only)) > 1:
            return
        [running] = takes(only)
        with transaction() as session:
            gone = now(session) - timedelta(seconds=1)
            session.execute(update(Take).where(Take.id == running.id).values(lease_until=gone))
        with transaction() as session:
            assert lose_take(session, running.id, running.job_id)

    gate(lose)
    worker = ObservedWorker(POOL)
    with worker.opened():
        worker.work()
    lost, again = takes(only)
    assert (lost.state, again.state) == ("lost", "succeeded")
    assert unit(only).clip_key == again.clip_key
    assert again.id in str(again.clip_key)


def test_the_queue_of_a_chained_segment_begins_when_the_one_before_it_has_ended(engine: Engine, gate: Gate) -> None:
    one, two = order(10)
    with transaction() as session:
        long_ago = now(session) - timedelta(hours=1)
        session.execute(update(Unit).where(Unit.id.in_([one, two])).values(queued_at=long_ago))
    gate(lambda key: None)
    worker = ObservedWorker(POOL)
    with worker.opened():
        worker.work()
    first, second = (take.meter["seconds"]["queue"] for take in takes() if take.meter)
    assert first >= 3600
    assert second < 3600


def test_the_lease_is_renewed_for_as_long_as_the_upload_lasts(
    engine: Engine, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CINEMETER_LEASE_SECONDS", "4")
    get_settings.cache_clear()
    [only] = order(1)

    def slow(key: str) -> None:
        begun = takes(only)[0].lease_until
        wait_until(lambda: takes(only)[0].lease_until > begun + timedelta(seconds=2), "the lease is renewed")

    gate(slow)
    worker = ObservedWorker(POOL)
    with worker.opened():
        worker.work()
    assert [take.state for take in takes()] == ["succeeded"]


def test_a_drain_during_the_upload_lets_it_end_and_begins_nothing_new(engine: Engine, gate: Gate) -> None:
    [only] = order(1)
    later: list[str] = []
    worker = ObservedWorker(POOL)

    def drain(key: str) -> None:
        with transaction() as session:
            set_draining(session, worker.worker_id)
        wait_until(worker._draining.is_set, "the worker hears that it drains")
        later.extend(order(1))

    gate(drain)
    with worker.opened():
        worker.work()
        assert unit(only).state == "done"
    assert states(later) == ["ready"]
    assert takes(later[0]) == []
    with transaction() as session:
        assert session.get_one(Worker, worker.worker_id).state == "gone"


def test_a_cancel_during_the_upload_costs_nothing_and_the_worker_goes_on(world: World, gate: Gate) -> None:
    body: dict[str, Any] = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}
    job = world.post("/v1/videos", body).json()

    def cancel(key: str) -> None:
        if job["id"] in key and world.get(f"/v1/videos/{job['id']}").json()["status"] == "in_progress":
            assert world.post(f"/v1/videos/{job['id']}/cancel").status_code == 200

    gate(cancel)
    other = world.post("/v1/videos", {**body, "prompt": "more bars"}, key=world.bob).json()
    world.work()
    ended = world.get(f"/v1/videos/{job['id']}").json()
    assert (ended["status"], ended["charged"]) == ("cancelled", "0.00")
    assert world.get(f"/v1/videos/{other['id']}", key=world.bob).json()["status"] == "completed"


def test_what_comes_during_an_upload_is_begun_beside_it(engine: Engine, gate: Gate) -> None:
    """The worker's queue was empty, and it looks again before the upload has ended."""
    [only] = order(1)
    worker = ObservedWorker(POOL)
    later: list[str] = []

    def slow(key: str) -> None:
        if not later:
            later.extend(order(1))
            wait_until(lambda: later[0] in worker.begun, "the take that came meanwhile is denoised")

    gate(slow)
    with worker.opened():
        worker.work()
    assert states([only, *later]) == ["done", "done"]


class OnABrokenDevice(SyntheticEngine):
    """An engine whose memory cannot be given back."""

    def close(self) -> None:
        raise RuntimeError("illegal memory access")


class Ended(BaseException):
    """The process would be gone."""


@pytest.mark.parametrize("end", ["poisoned", "grown"])
def test_a_process_that_must_end_finishes_its_upload_first(
    engine: Engine, gate: Gate, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    first, second = order(1, 1)
    must_go = threading.Event()

    def render(unit_id: str, step: int) -> None:
        if unit_id == second and step == 1:
            must_go.set()
            if end == "poisoned":
                raise EnginePoisoned("the self-test failed")

    sizes = iter([1, 1 << 40] if end == "grown" else [1] * 9)

    def size() -> int:
        grown = next(sizes)
        if grown > 1:
            must_go.set()
        return grown

    worker = ObservedWorker(POOL, render)
    worker.engines.growth = MemoryGrowth(measure=size)
    worker.engines.growth._takes = 2

    def leave(status: int) -> None:
        assert [take.state for take in takes(first)] == ["succeeded"], "the upload was waited for"
        raise Ended(status)

    monkeypatch.setattr("os._exit", leave)
    gate(lambda key: wait_until(must_go.is_set, "the process must go") if first in worker.begun else None)
    worker.open()
    # A newly loaded model would begin to settle anew.
    monkeypatch.setattr(worker.engines.growth, "reset", lambda: None)
    if end == "poisoned":
        # A broken device does not let go of its weights either; the process ends all the same.
        worker.engines.engine = OnABrokenDevice(load_catalog(get_settings().catalog_dir)["synthetic"])
    with pytest.raises(Ended):
        worker.work()
    assert takes(second)[0].state == ("failed" if end == "poisoned" else "succeeded")
