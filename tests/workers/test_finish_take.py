"""The finish of a film: a store that fails for a moment, a lease that is lost, and a worker that must leave."""

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from app.clock import now
from app.db import transaction
from app.dispatch.lease import lose_take
from app.jobs.queue_tables import Take, Unit, Worker
from app.jobs.tables import Job, ReceiptRow
from app.logs import current_ids
from app.reports.audit import audit_books
from app.settings import get_settings
from app.storage import StorageError, Stored
from tests.api_client import World
from tests.workers.conftest import Gate
from tests.workers.worker_processes import ObservedWorker, take_of, takes, wait_until
from workers.finish_take import FinishTake

POOLS = ["finish", "synthetic"]


def order(world: World) -> str:
    response = world.post("/v1/videos", {"model": "synthetic", "prompt": "bars", "seconds": 1})
    assert response.status_code == 200, response.text
    return str(response.json()["id"])


def assert_completed_once(world: World, job_id: str) -> None:
    assert world.get(f"/v1/videos/{job_id}").json()["status"] == "completed"
    with transaction() as session:
        assert len(session.scalars(select(ReceiptRow)).all()) == 1
        assert takes()[-1].id in str(session.get_one(Job, job_id).film_key)
        assert audit_books(session) == []


@pytest.mark.parametrize("name", ["poster.jpg", "film.mp4", "wave.png"])
def test_a_store_that_is_away_for_a_moment_costs_no_film(world: World, gate: Gate, name: str) -> None:
    is_away = True

    def upload(key: str) -> None:
        if is_away and key.startswith("films/") and key.endswith(name):
            raise StorageError("The bucket is gone.")

    gate(upload)
    job_id = order(world)
    world.work()
    failed = takes()[-1]
    assert (failed.kind, failed.state, failed.error_code) == ("finish", "failed", "storage_failed")
    assert failed.meter is not None, "a broken finish has used its worker too"
    assert failed.meter["seconds"]["finish"] > 0
    with transaction() as session:
        assert session.get_one(Job, job_id).state == "in_progress"
        # The pause is over.
        session.execute(update(Unit).where(Unit.job_id == job_id).values(not_before=None))
    is_away = False
    world.work()
    assert_completed_once(world, job_id)


def test_pictures_that_cannot_be_stored_end_the_finish_with_its_next_step(
    world: World, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = ObservedWorker(POOLS)
    contexts: list[dict[str, str]] = []

    def upload(key: str) -> None:
        take = worker.take
        if key.endswith("/poster.jpg"):
            contexts.append(current_ids())
            raise StorageError("The bucket is gone.")
        if key.startswith("films/") and key.endswith("/film.mp4"):
            assert isinstance(take, FinishTake)
            assert take._reading is not None
            wait_until(take._reading.done, "its pictures have failed")

    storage = gate(upload)
    fetch, fetched = storage.get_file, list[str]()
    monkeypatch.setattr(storage, "get_file", lambda key, path: fetched.append(key) or fetch(key, path))
    order(world)
    with worker.opened():
        worker.work()
    failed = takes()[-1]
    assert (failed.kind, failed.error_code) == ("finish", "storage_failed")
    assert not [key for key in fetched if key.startswith("films/")], "the film is not read back for nothing"
    assert contexts[0]["take_id"] == failed.id, "lines in the log of the thread that reads say whose they are"


def test_a_finish_that_has_ended_stores_no_more(world: World, gate: Gate) -> None:
    worker, stored = ObservedWorker(POOLS), list[str]()

    def upload(key: str) -> None:
        stored.append(key.rpartition("/")[2])
        take = worker.take
        if key.endswith("/poster.jpg") and isinstance(take, FinishTake):
            wait_until(lambda: take._has_ended, "the take has ended")
        if key.startswith("films/") and key.endswith("/film.mp4"):
            raise StorageError("The bucket is gone.")

    gate(upload)
    order(world)
    with worker.opened():
        worker.work()
    assert takes()[-1].error_code == "storage_failed"
    assert "sprites.jpg" not in stored


def test_other_bytes_than_those_measured_are_not_sold(
    world: World, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = gate(lambda key: None)
    fetch = storage.get_file

    def damage(key: str, path: Path) -> Stored:
        if key.startswith("films/"):
            with storage._path(key).open("r+b") as file:
                file.seek(-1, 2)
                last = file.read(1)
                file.seek(-1, 2)
                file.write(bytes([last[0] ^ 1]))
        return fetch(key, path)

    monkeypatch.setattr(storage, "get_file", damage)
    job_id = order(world)
    world.work()
    failed = takes()[-1]
    assert (failed.kind, failed.state, failed.error_code) == ("finish", "failed", "finish_failed")
    assert "differs from the one that was uploaded" in str(failed.error_message)
    assert world.get(f"/v1/videos/{job_id}").json()["status"] == "in_progress", "nothing is charged yet"


def test_a_finish_that_breaks_fails_with_a_code_of_its_own(world: World, gate: Gate, tmp_path: Path) -> None:
    storage = gate(lambda key: None)
    job_id = order(world)
    worker = ObservedWorker(["synthetic"])
    with worker.opened():
        worker.work()
    with transaction() as session:
        # A clip that is no film: the join raises the same error as a broken encoder of a segment.
        unit = session.scalars(select(Unit).where(Unit.job_id == job_id, Unit.kind == "segment")).one()
        unit.clip_key = "takes/broken.mp4"
    (tmp_path / "broken.mp4").write_bytes(b"no film")
    storage.put_file("takes/broken.mp4", tmp_path / "broken.mp4", "video/mp4")
    world.work()
    failed = takes()[-1]
    assert (failed.kind, failed.state, failed.error_code) == ("finish", "failed", "finish_failed")


def test_a_lease_that_is_lost_during_the_finish_discards_its_film(world: World, gate: Gate) -> None:
    def lose(key: str) -> None:
        if not key.startswith("films/") or len(takes()) > 2:
            return
        running = takes()[-1]
        assert running.id == take_of(key)
        with transaction() as session:
            gone = now(session) - timedelta(seconds=1)
            session.execute(update(Take).where(Take.id == running.id).values(lease_until=gone))
        with transaction() as session:
            assert lose_take(session, running.id, running.job_id)

    gate(lose)
    job_id = order(world)
    world.work()
    assert [(take.kind, take.state) for take in takes()] == [
        ("segment", "succeeded"),
        ("finish", "lost"),
        ("finish", "succeeded"),
    ]
    assert_completed_once(world, job_id)


def test_a_finish_whose_worker_must_leave_is_handed_back(
    world: World, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CINEMETER_LEASE_SECONDS", "4")
    get_settings.cache_clear()
    worker = ObservedWorker(POOLS)

    def leave(key: str) -> None:
        take = worker.take
        if take is not None and key.endswith("poster.jpg"):
            with transaction() as session:
                leaving = update(Worker).where(Worker.id == worker.worker_id)
                session.execute(leaving.values(drain_requested=True, leave_at=now(session)))
            wait_until(take.control.cancelled, "the take hears that its worker leaves")
            wait_until(worker._draining.is_set, "the worker hears that it drains")

    gate(leave)
    job_id = order(world)
    with worker.opened():
        worker.work()
    finish = takes()[-1]
    assert (finish.kind, finish.state, finish.error_code) == ("finish", "released", None)
    with transaction() as session:
        unit = session.get_one(Unit, finish.unit_id)
        assert (unit.state, unit.takes_lost, unit.takes_error, unit.not_before) == ("ready", 0, 0, None)
    world.work()
    assert_completed_once(world, job_id)
