"""The story of one film: join the clips, lay the sound, take the pictures, upload, measure what is stored, settle."""

import logging
import time
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import select

from app.assets.find import asset_key
from app.db import transaction
from app.dispatch.claim import Claim
from app.dispatch.lease import STORAGE_FAILED, LeaseLost, fail_take, succeed_finish
from app.jobs.queue_tables import Unit
from app.jobs.settle import StoredFilm
from app.jobs.spec import Spec, reused_frames
from app.jobs.tables import Job
from app.storage import Storage, StorageError, get_storage
from workers.commit_retry import commit_with_retry
from workers.engine.meter import cpu_seconds
from workers.film.encoding import FilmError
from workers.film.join import Transition, join
from workers.film.measure import Measure, measure
from workers.film.thumbnails import poster, spritesheet
from workers.heartbeat import Heartbeat
from workers.render_control import TakeControl
from workers.temp_dirs import make_temp_dir

log = logging.getLogger(__name__)


class BrokenFilm(FilmError):
    """The stored film is not what the job is to deliver; the take fails and nothing is charged for it."""


class _Clip(NamedTuple):
    """A fetched clip, the shot that it is of, and how it begins."""

    path: Path
    shot: int
    transition: Transition


def finish(claim: Claim) -> None:
    """Finish one claimed film from beginning to end. An upload that failed is a finish that failed."""
    with make_temp_dir("finish") as folder:
        control = TakeControl(share_done=0.99, share=0.0)
        try:
            with Heartbeat(claim, control) as heartbeat:
                _finish(claim, control, heartbeat, Path(folder))
        except LeaseLost:
            log.warning("Finish %s lost its lease; what it made is discarded.", claim.take_id)


def _finish(claim: Claim, control: TakeControl, heartbeat: Heartbeat, folder: Path) -> None:
    began, cpu = time.perf_counter(), cpu_seconds()
    try:
        film = _make_film(claim, control, folder)
        heartbeat.rest()
    except Exception as error:
        heartbeat.rest()
        if heartbeat.lost:
            raise LeaseLost(claim.take_id) from error
        log.exception("Finish %s broke", claim.take_id)
        code = STORAGE_FAILED if isinstance(error, StorageError) else "finish_failed"
        with transaction() as session:
            fail_take(session, claim, code=code, message=str(error) or type(error).__name__, permanent=False)
        return
    meter = {
        "seconds": {"finish": round(time.perf_counter() - began, 6)},
        "cpu_seconds": {"finish": round(cpu_seconds() - cpu, 6)},
        "gpu_seconds": "0",
    }
    commit_with_retry(claim, lambda session: succeed_finish(session, claim, film, meter=meter), lambda: heartbeat.lost)


def _make_film(claim: Claim, control: TakeControl, folder: Path) -> StoredFilm:
    storage = get_storage()
    with transaction() as session:
        job = session.get_one(Job, claim.job_id)
        spec = Spec.model_validate(job.spec)
        is_part = job.cancel_requested_at is not None
        units = session.scalars(
            select(Unit)
            .where(Unit.job_id == job.id, Unit.kind == "segment", Unit.state == "done")
            .order_by(Unit.shot, Unit.position)
        ).all()
        sound_key = asset_key(session, spec.audio) if spec.audio else None
    clips = _fetch_clips(spec, list(units), storage, folder, is_part=is_part)
    faded = [
        any(clip.shot == shot and clip.transition == "crossfade" for clip in clips) for shot in range(len(spec.shots))
    ]
    control.still_alive()
    sound = None
    if sound_key is not None:
        sound = folder / "sound"
        storage.get_file(sound_key, sound)
    film = folder / "film.mp4"
    join(
        [clip.path for clip in clips],
        film,
        transitions=[clip.transition for clip in clips][1:],
        crossfade_frames=spec.crossfade_frames,
        audio=sound,
    )
    control.still_alive()
    reused = reused_frames(spec.shots, faded, spec.crossfade_frames)
    return _store(claim, control, spec, film, folder, reused=reused, is_part=is_part)


def _store(
    claim: Claim, control: TakeControl, spec: Spec, film: Path, folder: Path, *, reused: int, is_part: bool
) -> StoredFilm:
    """Take the film's pictures, upload all of it under keys that hold the take's id, and measure what is stored.

    `reused` of its frames show nothing but shots of another job.
    """
    storage = get_storage()
    made = measure(film, decode="keys")
    poster(film, folder / "poster.jpg", measure=made)
    sprites = spritesheet(film, folder / "sprites.jpg", measure=made)
    prefix = f"films/{claim.job_id}/{claim.take_id}"
    storage.put_file(f"{prefix}/poster.jpg", folder / "poster.jpg", "image/jpeg")
    storage.put_file(f"{prefix}/sprites.jpg", folder / "sprites.jpg", "image/jpeg")
    stored = storage.put_file(f"{prefix}/film.mp4", film, "video/mp4")
    control.still_alive()
    measured = _measure_stored(storage, f"{prefix}/film.mp4", folder)
    if measured.sha256 != stored.sha256:
        raise BrokenFilm("the stored film differs from the one that was uploaded")
    _check(spec, measured, is_part=is_part)
    return StoredFilm(
        key=f"{prefix}/film.mp4",
        poster_key=f"{prefix}/poster.jpg",
        sprites_key=f"{prefix}/sprites.jpg",
        sha256=measured.sha256,
        bytes=measured.bytes,
        frames=measured.frames,
        fps=measured.fps,
        width=measured.width,
        height=measured.height,
        has_audio=measured.has_audio,
        reused_frames=reused,
        facts={"sprites": asdict(sprites)},
    )


def _fetch_clips(spec: Spec, units: list[Unit], storage: Storage, folder: Path, *, is_part: bool) -> list[_Clip]:
    """Fetch the clips in the film's order, each with the transition that leads into it.

    Segments of one shot are always cut together. In a part of a film (cancelled), a crossfade is kept only where
    both of its shots are whole and neighbours; elsewhere the clips are cut.
    """
    clips: list[_Clip] = []
    whole_before = False
    for number, shot in enumerate(spec.shots):
        own = [unit for unit in units if unit.shot == number]
        keys: list[str | None] = [*shot.reuse_clips] or [unit.clip_key for unit in own]
        whole = bool(shot.reuse_clips) or sum(unit.frames for unit in own) == shot.frames
        for place, key in enumerate(keys):
            if key is None:
                raise BrokenFilm(f"shot {number} has a segment without a clip")
            path = folder / f"clip-{number:03d}-{place:03d}.mp4"
            storage.get_file(key, path)
            first = place == 0 and number > 0
            crossfade = first and shot.transition == "crossfade" and whole_before and whole
            clips.append(_Clip(path, number, "crossfade" if crossfade else "cut"))
        if not whole and not is_part:
            raise BrokenFilm(f"shot {number} is not whole")
        whole_before = whole
    if not clips:
        raise BrokenFilm("there is no clip to join")
    return clips


def _measure_stored(storage: Storage, key: str, folder: Path) -> Measure:
    """Read the film back from storage and measure it: what is charged is what lies there."""
    path = folder / "stored.mp4"
    storage.get_file(key, path)
    return measure(path)


def _check(spec: Spec, measured: Measure, *, is_part: bool) -> None:
    """Hold the stored film against what was quoted. Raises BrokenFilm."""
    wrong = []
    if not is_part and measured.frames != spec.frames:
        wrong.append(f"{measured.frames} frames instead of {spec.frames}")
    if measured.fps != spec.fps:
        wrong.append(f"{measured.fps} frames per second instead of {spec.fps}")
    if (measured.width, measured.height) != (spec.width, spec.height):
        wrong.append(f"{measured.width}x{measured.height} instead of {spec.width}x{spec.height}")
    if measured.has_audio != (spec.audio is not None):
        wrong.append("sound" if measured.has_audio else "no sound")
    if measured.blank:
        wrong.append("blank pictures")
    if wrong:
        raise BrokenFilm(f"the stored film has {', '.join(wrong)}")
