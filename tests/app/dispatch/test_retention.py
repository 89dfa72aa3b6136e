"""Retention on real rows and a real folder: expired files are removed, needed ones stay, and receipts stay for ever."""

import itertools
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, event, select

from app.assets.owner import OwnerIds
from app.assets.upload import begin_upload
from app.clock import now
from app.db import transaction
from app.dispatch.claim import Claim, claim
from app.dispatch.lease import release_take, succeed_segment
from app.dispatch.retention import (
    FILMS_BATCH,
    Chore,
    clean,
    expired_films,
    run_retention,
    unreferenced_assets,
    unreferenced_films,
)
from app.jobs.delete import remove_files
from app.jobs.queue_tables import Unit
from app.jobs.states import JobState, advance
from app.jobs.tables import Job
from app.settings import get_settings
from app.storage import StorageError, get_storage
from app.storage.files import FileStorage
from tests.factories import make_account, make_queued_job, make_spec


@pytest.fixture
def put(engine: Engine, redis_url: str, tmp_path: Path) -> Callable[[str], None]:
    """Store a small file under a key, as a worker does."""
    source = tmp_path / "source"
    source.write_bytes(b"a file")
    return lambda key: (get_storage().put_file(key, source, "video/mp4"), None)[1]


def keys(prefix: str = "") -> set[str]:
    return {stat.key for stat in get_storage().list(prefix)}


def start_job(seconds: tuple[int, ...] = (1,), account_id: str | None = None) -> str:
    with transaction() as session:
        account_id = account_id or make_account(session).id
        return make_queued_job(session, account_id, spec=make_spec(seconds=seconds)).id


def claim_next() -> Claim:
    with transaction() as session:
        claimed = claim(session, "worker-1", ["demo"])
    assert claimed is not None
    return claimed


def sweep_files(job_id: str) -> int:
    """One round over the parts of storage in which this job's files lie."""
    letter = job_id.removeprefix("video_")[0]
    return unreferenced_films(f"takes/video_{letter}") + unreferenced_films(f"films/video_{letter}")


def test_a_running_takes_files_stay_and_a_lost_ones_go(put: Callable[[str], None]) -> None:
    job_id = start_job()
    claimed = claim_next()
    clip = f"takes/{job_id}/{claimed.take_id}/clip.mp4"
    put(clip)
    assert sweep_files(job_id) == 0
    assert keys() == {clip}
    with transaction() as session:
        release_take(session, claimed)
    assert sweep_files(job_id) == 1
    assert keys() == set()
    # The worker that was given up uploads late; the next round finds that, too.
    put(clip)
    assert sweep_files(job_id) == 1


@pytest.mark.parametrize("queries", [1, 2, 3])
def test_a_take_that_ends_while_the_rows_are_read_keeps_its_clip(
    engine: Engine, put: Callable[[str], None], queries: int
) -> None:
    job_id = start_job()
    claimed = claim_next()
    clip = f"takes/{job_id}/{claimed.take_id}/clip.mp4"
    put(clip)
    count = itertools.count(1)

    def end(*_: object) -> None:
        if next(count) == queries:
            with transaction() as session:
                succeed_segment(session, claimed, clip_key=clip, handover_key=None, meter={"gpu_seconds": "1"})

    event.listen(engine, "after_cursor_execute", end)
    try:
        assert unreferenced_films(f"takes/{job_id}") == 0
    finally:
        event.remove(engine, "after_cursor_execute", end)
    assert next(count) > queries + 1, "it ended while rows were read"
    assert keys() == {clip}


def test_an_unfinished_job_keeps_what_its_units_name(put: Callable[[str], None]) -> None:
    job_id = start_job(seconds=(1, 1))
    claimed = claim_next()
    clip, handover = (f"takes/{job_id}/{claimed.take_id}/{name}" for name in ("clip.mp4", "handover.safetensors"))
    put(clip)
    put(handover)
    put(f"takes/{job_id}/{claimed.take_id}/forgotten.bin")
    with transaction() as session:
        succeed_segment(session, claimed, clip_key=clip, handover_key=handover, meter={"gpu_seconds": "1"})
    assert sweep_files(job_id) == 1
    assert keys() == {clip, handover}


def test_a_film_keeps_its_clips_for_retakes_and_nothing_else(put: Callable[[str], None]) -> None:
    job_id = start_job()
    clip, handover, film = (
        f"takes/{job_id}/take_1/clip.mp4",
        f"takes/{job_id}/take_1/h",
        f"films/{job_id}/take_2/film.mp4",
    )
    for key in (clip, handover, film, f"films/{job_id}/take_lost/film.mp4"):
        put(key)
    with transaction() as session:
        job = session.get_one(Job, job_id)
        unit = session.scalars(select(Unit).where(Unit.job_id == job_id)).one()
        unit.state, unit.clip_key, unit.handover_key = "done", clip, handover
        advance(job, JobState.IN_PROGRESS, at=now(session))
        advance(job, JobState.COMPLETED, at=now(session))
        job.film_key = film
    assert sweep_files(job_id) == 2
    assert keys() == {clip, film}


def test_a_failed_job_keeps_nothing(put: Callable[[str], None]) -> None:
    job_id = start_job()
    put(f"takes/{job_id}/take_1/clip.mp4")
    with transaction() as session:
        unit = session.scalars(select(Unit).where(Unit.job_id == job_id)).one()
        unit.state, unit.clip_key = "done", f"takes/{job_id}/take_1/clip.mp4"
        advance(session.get_one(Job, job_id), JobState.FAILED, at=now(session))
    assert sweep_files(job_id) == 1
    assert keys() == set()


def test_files_of_an_unknown_job_get_a_day(put: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that was restored from an older backup does not know the newest films yet."""
    put("films/video_0000/take_1/film.mp4")
    assert unreferenced_films("films/video_0") == 0
    monkeypatch.setenv("CINEMETER_CLOCK_OFFSET_SECONDS", str(25 * 3600))
    get_settings.cache_clear()
    assert unreferenced_films("films/video_0") == 1


def test_uploads_without_a_row_go_after_a_day_and_named_ones_stay(
    put: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with transaction() as session:
        account_id = make_account(session).id
        asset, _ = begin_upload(session, OwnerIds(account_id), kind=None, filename="", content_type="image/png", size=1)
    for key in (str(asset.key), f"uploads/{account_id}/asset_rolled_back", f"assets/{account_id}/asset_left.png"):
        put(key)
    assert unreferenced_assets() == 0
    monkeypatch.setenv("CINEMETER_CLOCK_OFFSET_SECONDS", str(25 * 3600))
    get_settings.cache_clear()
    assert unreferenced_assets() == 2
    assert keys() == {asset.key}


def test_a_film_stays_while_a_retake_of_it_is_made(put: Callable[[str], None]) -> None:
    with transaction() as session:
        account_id = make_account(session).id
    parent_id, child_id = start_job(account_id=account_id), start_job(account_id=account_id)
    put(f"films/{parent_id}/take_1/film.mp4")
    with transaction() as session:
        parent = session.get_one(Job, parent_id)
        advance(parent, JobState.IN_PROGRESS, at=now(session))
        advance(parent, JobState.COMPLETED, at=now(session))
        parent.film_key = f"films/{parent_id}/take_1/film.mp4"
        parent.files_expire_at = now(session) - timedelta(hours=1)
        session.get_one(Job, child_id).parent_id = parent_id
    assert expired_films() == 0
    with transaction() as session:
        advance(session.get_one(Job, child_id), JobState.FAILED, at=now(session))
    assert expired_films() == 1
    assert keys() == set()


def expire(job_id: str, *, days: int) -> None:
    """End a job whose files should have been removed some days ago."""
    with transaction() as session:
        job = session.get_one(Job, job_id)
        advance(job, JobState.FAILED, at=now(session))
        job.files_expire_at = now(session) - timedelta(days=days)


def test_files_are_found_after_a_crash_between_the_row_and_the_store(put: Callable[[str], None]) -> None:
    job_id = start_job()
    expire(job_id, days=1)
    put(f"films/{job_id}/take_1/film.mp4")
    with transaction() as session:
        session.get_one(Job, job_id).files_removed_at = now(session)
    assert expired_films() == 0
    assert sweep_files(job_id) == 1
    assert remove_files(job_id) == 0


def test_a_film_that_cannot_be_removed_does_not_stop_the_others(
    put: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [start_job() for _ in range(FILMS_BATCH + 3)]
    for number, job_id in enumerate(jobs):
        put(f"films/{job_id}/take_1/film.mp4")
        expire(job_id, days=30 - number)
    delete = FileStorage.delete

    def refuse(storage: FileStorage, key: str) -> None:
        if jobs[0] in key:
            raise StorageError("this object is locked")
        delete(storage, key)

    monkeypatch.setattr(FileStorage, "delete", refuse)
    assert expired_films() == FILMS_BATCH - 1
    assert expired_films() == 3
    assert expired_films() == 0
    assert keys("films/") == {f"films/{jobs[0]}/take_1/film.mp4"}
    monkeypatch.setattr(FileStorage, "delete", delete)
    assert expired_films() == 0, "it is left alone for a while"
    monkeypatch.setenv("CINEMETER_CLOCK_OFFSET_SECONDS", "700")
    get_settings.cache_clear()
    assert expired_films() == 1
    assert keys("films/") == set()


def test_a_store_that_is_away_stops_one_task_and_no_other(engine: Engine, redis_url: str) -> None:
    def broken() -> int:
        raise OSError("the store is away")

    done = threading.Event()
    duties = [Chore("broken", broken, 0.0), Chore("sound", lambda: (done.set(), 0)[1], 0.0)]
    assert clean(duties) == {"sound": 0}
    assert "broken" not in clean(duties), "what broke is left alone for a while"


def test_only_the_leader_cleans(put: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.dispatch.retention.TICK_SECONDS", 0.001)
    checked, stop = threading.Event(), threading.Event()

    def leads() -> bool:
        if checked.is_set():
            stop.set()
        checked.set()
        return False

    put("films/video_0000/take_1/film.mp4")
    run_retention(stop, leads)
    assert keys()
