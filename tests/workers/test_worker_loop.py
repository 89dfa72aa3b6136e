"""The start of a worker: it registers, loads the model that it will need, and leaves at once where it must."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, update

from app.catalog.models import VideoModel, load_catalog
from app.clock import now
from app.db import transaction
from app.dispatch.claim import claim
from app.jobs.plan import TEST_POOL
from app.jobs.queue_tables import Worker
from app.settings import get_settings
from tests.factories import make_account, make_queued_job
from tests.workers.worker_processes import ObservedWorker, takes, wait_until
from workers.engine.synthetic import SyntheticEngine
from workers.engine_cache import EngineCache

POOLS = ["finish", "demo", "synthetic"]
pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of further models, set as the configured one."""
    monkeypatch.setenv("CINEMETER_CATALOG_DIR", str(tmp_path))
    monkeypatch.setenv("CINEMETER_DEVICE", "cpu")
    get_settings.cache_clear()
    load_catalog.cache_clear()
    yield tmp_path
    load_catalog.cache_clear()


def demo_toml() -> str:
    return (Path(__file__).parents[2] / "app" / "catalog" / "demo.toml").read_text(encoding="utf-8")


def registry_row(worker: ObservedWorker) -> Worker:
    with transaction() as session:
        return session.get_one(Worker, worker.worker_id)


def test_the_only_model_of_a_worker_is_loaded_before_its_first_take(models: Path) -> None:
    worker = ObservedWorker(POOLS)
    with worker.opened():
        assert registry_row(worker).state == "starting"
        worker.warm_up()
        assert worker.engines.model is not None
        assert worker.engines.model.id == "demo"
        wait_until(
            lambda: (registry_row(worker).state, registry_row(worker).resident_model) == ("idle", "demo"),
            "it is loaded",
        )


def test_a_test_order_leaves_the_loaded_model_where_it_is(engine: Engine, models: Path) -> None:
    worker = ObservedWorker(POOLS)
    with worker.opened():
        worker.warm_up()
        loaded = worker.engines.engine
        with transaction(engine) as session:
            account = make_account(session)
            job_ids = {make_queued_job(session, account.id, pool=pool).id for pool in ("demo", "synthetic")}
        engines = {}
        for pool in ("synthetic", "demo"):
            with transaction(engine) as session:
                claimed = claim(session, worker.worker_id, [pool])
            assert claimed is not None
            job_ids.remove(claimed.job_id)
            engines[pool] = EngineCache.engine_for(worker.engines, claimed)
        assert isinstance(engines["synthetic"], SyntheticEngine)
        assert engines["demo"] is loaded is not None


def test_nothing_is_guessed_where_there_are_two_models_or_none(models: Path) -> None:
    (models / "second.toml").write_text(demo_toml().replace('id = "demo"', 'id = "second"'), encoding="utf-8")
    for pools in (POOLS, ["finish", "synthetic"]):
        worker = ObservedWorker(pools)
        with worker.opened():
            worker.warm_up()
            assert worker.engines.engine is None
            wait_until(lambda worker=worker: registry_row(worker).state == "idle", "it is ready all the same")  # type: ignore[misc]


def test_weights_that_are_not_there_are_the_first_takes_problem(models: Path, caplog: pytest.LogCaptureFixture) -> None:
    lost = demo_toml().replace("workers/demo_model/weights", "/nowhere/at/all")
    (models / "demo.toml").write_text(lost, encoding="utf-8")
    worker = ObservedWorker(POOLS)
    with worker.opened():
        worker.warm_up()
        assert "could not be loaded before" in caplog.text
        wait_until(lambda: registry_row(worker).state == "idle", "it is ready all the same")


def test_a_worker_that_must_stop_while_it_loads_ends_at_once(
    engine: Engine, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[int] = []
    gone = threading.Event()

    class Endless(SyntheticEngine):
        """An engine whose weights never finish loading."""

        def load(self) -> None:
            with transaction(engine) as session:
                leaving = update(Worker).where(Worker.id == worker.worker_id)
                session.execute(leaving.values(drain_requested=True, leave_at=now(session)))
            assert gone.wait(60), "nobody ended this process"

    def leave(status: int) -> None:
        left.append(status)
        gone.set()

    def endless(model: VideoModel, device: str) -> Endless:
        return Endless(model)

    monkeypatch.setattr("os._exit", leave)
    monkeypatch.setattr("workers.engine_cache.make_engine", endless)
    worker = ObservedWorker(POOLS)
    with worker.opened():
        worker.warm_up()
    assert left[0] == 0
    assert registry_row(worker).state == "gone"


def test_an_order_to_leave_reaches_a_take_before_its_own_beat(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.heartbeat.TICK_SECONDS", 3600.0)

    def at_step(unit_id: str, step: int) -> None:
        with transaction(engine) as session:
            leaving = update(Worker).where(Worker.id == worker.worker_id)
            session.execute(leaving.values(drain_requested=True, leave_at=now(session)))
        take = worker.take
        assert take is not None
        wait_until(take.control.cancelled, "the take goes on until its own beat")

    worker = ObservedWorker(POOLS, at_step)
    with worker.opened():
        worker.warm_up()
        with transaction(engine) as session:
            make_queued_job(session, make_account(session).id, pool=TEST_POOL)
        worker.work()
    assert [each.state for each in takes()] == ["released"]
