"""Two real worker processes: one must stop in the middle of a chained shot, the other resumes there."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from app.catalog.models import load_catalog
from app.db import transaction
from app.jobs.queue_tables import Take, Unit, Worker
from app.jobs.tables import Job
from app.reports.audit import audit_books
from app.settings import child_environment, get_settings
from app.storage import get_storage
from app.wakeups import send_wakeup
from tests.api_client import World
from tests.workers.engine.tiny_wan import CATALOGUE, FACTS, build_tiny_wan
from tests.workers.worker_processes import leave_films_unmarked, takes, unit, wait_until
from workers.film.frames import read_frames

pytestmark = [pytest.mark.deep, pytest.mark.timeout(600)]

MODEL, POOL = "tiny-ti2v", "tiny"
# Seconds of work in each segment even on a quick machine, so that the request to stop comes in the middle of one.
STEPS = 400
PATIENCE_SECONDS = 180.0
ORDER = {"model": MODEL, "prompt": "a red circle moves left", "seconds": 3, "resolution": "480P", "seed": 7}

StartWorker = Callable[[str], subprocess.Popen[bytes]]


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A slow tiny Wan in a pool of its own, and a store that both machines share."""
    facts, seconds = FACTS["ti2v"]
    weights = build_tiny_wan("ti2v", tmp_path / "ti2v")
    words = {"family": "ti2v", "suffix": "", "folder": weights, "facts": facts, "switches": "", "seconds": seconds}
    text = CATALOGUE.format(**words).replace("steps = 3", f"steps = {STEPS}").replace('"demo"', f'"{POOL}"')
    folder = tmp_path / "catalog"
    folder.mkdir()
    (folder / "tiny.toml").write_text(text.replace("checkpoint_seconds = 0.0", "checkpoint_seconds = 0.2"))
    monkeypatch.setenv("CINEMETER_CATALOG_DIR", str(folder))
    monkeypatch.setenv("CINEMETER_STORAGE_URL", f"file:{tmp_path / 'store'}")
    # As soon as it hears of it: the test is about the hand-back, not about the time that a take is given.
    monkeypatch.setenv("CINEMETER_DRAIN_SECONDS", "0")
    get_settings.cache_clear()
    load_catalog.cache_clear()
    yield
    load_catalog.cache_clear()


@pytest.fixture
def start(catalog: None, world: World, tmp_path: Path) -> Iterator[StartWorker]:
    """Return a function that starts a worker on a machine of its own, and waits until it has loaded its model."""
    started: list[subprocess.Popen[bytes]] = []

    def on(machine: str) -> subprocess.Popen[bytes]:
        home = tmp_path / machine
        home.mkdir()
        with (home / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "app.cli.serve", "worker"],
                cwd=home,
                env=child_environment(home=home, pools=f"{POOL},finish"),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        started.append(process)
        wait_until(lambda: idle_with(MODEL), f"{machine} has loaded its model", PATIENCE_SECONDS)
        return process

    yield on
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.wait(timeout=PATIENCE_SECONDS)


def idle_with(model: str) -> list[str]:
    with transaction() as session:
        return list(session.scalars(select(Worker.id).where(Worker.state == "idle", Worker.resident_model == model)))


def order(world: World) -> tuple[str, list[str]]:
    """Order the film; return its id and its segments' in order."""
    response = world.post("/v1/videos", ORDER)
    assert response.status_code == 200, response.text
    job_id = str(response.json()["id"])
    with transaction() as session:
        chain = select(Unit.id).where(Unit.job_id == job_id, Unit.kind == "segment").order_by(Unit.position)
        return job_id, list(session.scalars(chain))


def film_of(world: World, job_id: str, folder: Path) -> tuple[dict[str, Any], np.ndarray[Any, Any]]:
    """Wait for the film; return the job as it is shown and the film's frames."""

    def video() -> dict[str, Any]:
        return dict(world.get(f"/v1/videos/{job_id}").json())

    wait_until(lambda: video()["status"] not in ("queued", "in_progress"), "the job has ended", PATIENCE_SECONDS)
    with transaction() as session:
        key = session.get_one(Job, job_id).film_key
    assert key is not None, video()
    path = folder / f"{job_id}.mp4"
    get_storage().get_file(key, path)
    return video(), read_frames(path, width=832, height=480, fps=Fraction(8), frames_max=1000)


def test_a_take_goes_on_elsewhere_where_a_stopped_worker_left_it(
    world: World, start: StartWorker, tmp_path: Path
) -> None:
    leave_films_unmarked()
    first = start("one machine")
    job_id, (first_segment, second_segment) = order(world)

    def is_half_way() -> bool:
        begun = takes(second_segment)
        return bool(begun and begun[0].step and unit(second_segment).checkpoint_key)

    wait_until(is_half_way, "the second segment has a checkpoint in the store", PATIENCE_SECONDS)
    first.terminate()
    assert first.wait(timeout=PATIENCE_SECONDS) == 0
    [released] = takes(second_segment)
    assert (released.state, released.error_code) == ("released", None)
    waiting = unit(second_segment)
    assert (waiting.state, waiting.takes_lost, waiting.takes_error, waiting.not_before) == ("ready", 0, 0, None)
    assert idle_with(MODEL) == []

    second = start("another machine")
    send_wakeup(POOL)
    video, frames = film_of(world, job_id, tmp_path)
    assert (video["status"], len(frames)) == ("completed", 24)
    resumed = takes(second_segment)[1]
    assert resumed.state == "succeeded"
    assert resumed.worker_id != released.worker_id
    assert resumed.meter is not None
    assert resumed.meter["resumed_from_step"] >= released.step > 0
    assert resumed.meter["steps"] == STEPS - resumed.meter["resumed_from_step"]
    assert len(takes(first_segment)) == 1, "a finished segment is never rendered again"

    undisturbed, (_, whole) = order(world)
    _, same = film_of(world, undisturbed, tmp_path)
    assert [take.state for take in takes(whole)] == ["succeeded"]
    np.testing.assert_array_equal(frames, same)
    second.terminate()
    assert second.wait(timeout=PATIENCE_SECONDS) == 0
    with transaction() as session:
        assert audit_books(session) == []
        assert session.scalars(select(Take.id).where(Take.state == "running")).all() == []
