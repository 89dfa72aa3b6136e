"""The story of one take: fetch what it needs, render, encode, upload, and end it by compare-and-set on its lease."""

import logging
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from sqlalchemy import select

from app.assets.find import asset_key
from app.catalog.models import VideoModel, load_catalog
from app.catalog.vocabulary import told
from app.db import transaction
from app.dispatch.claim import Claim
from app.dispatch.lease import LeaseLost, fail_take, release_take, succeed_segment
from app.jobs.queue_tables import Take, Unit
from app.jobs.spec import Shot, Spec
from app.jobs.tables import Job
from app.settings import get_settings
from app.storage import Storage, get_storage
from workers.checkpoints import checkpoint_folder, fetch_checkpoint, forget_checkpoints, store_checkpoint
from workers.control import Control
from workers.engine import DoesNotFit, Engine, EnginePoisoned, Handover, Refused, SegmentRequest, Stopped, segment_seed
from workers.film.clip_writer import ClipWriter
from workers.film.errors import FilmError
from workers.film.frames import read_frames, read_picture
from workers.heartbeat import Heartbeat

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Work:
    """What a take has to make, read once from the database."""

    spec: Spec
    shot: Shot
    unit: Unit
    previous: Unit | None  # the segment before this one in the same shot
    has_next: bool
    share_done: float  # part of the job's frames that is already done
    share: float  # part of the job's frames that this take makes
    waited: float  # seconds from the unit's readiness to this take


def render(claim: Claim, load: Callable[[], Engine]) -> None:
    """Render one claimed segment from beginning to end. Whatever happens, the take ends or its lease runs out.

    `load` gives the engine of the claim's model. It is called under the heartbeat, because loading a large model
    takes longer than a lease.
    """
    with tempfile.TemporaryDirectory(prefix="cinemeter-take-") as folder:
        try:
            _render(claim, load, Path(folder))
        except LeaseLost:
            log.warning("Take %s lost its lease; what it made is discarded.", claim.take_id)


def _render(claim: Claim, load: Callable[[], Engine], folder: Path) -> None:
    work = _read_work(claim)
    control = Control(share_done=work.share_done, share=work.share)
    with Heartbeat(claim, control) as heartbeat:
        try:
            engine = load()
            clip = folder / "clip.mp4"
            _make_clip(work, engine, control, folder, clip)
            clip_key, handover_key = _upload(claim, work, engine, folder, clip)
            heartbeat.rest()
        except (Stopped, LeaseLost):
            heartbeat.rest()
            if heartbeat.lost:
                raise LeaseLost(claim.take_id) from None
            checkpoint_key = store_checkpoint(claim)
            with transaction() as session:
                release_take(session, claim, checkpoint_key=checkpoint_key)
            return
        except EnginePoisoned as error:
            heartbeat.rest()
            _fail(claim, error, permanent=False)
            raise
        except Exception as error:
            heartbeat.rest()
            log.exception("Take %s broke", claim.take_id)
            _fail(claim, error, permanent=isinstance(error, Refused | DoesNotFit))
            return
        engine.meter.add("queue", work.waited)
        with transaction() as session:
            succeed_segment(session, claim, clip_key=clip_key, handover_key=handover_key, meter=engine.meter.as_dict())


def _fail(claim: Claim, error: Exception, *, permanent: bool) -> None:
    code = {Refused: "model_refused", DoesNotFit: "does_not_fit", FilmError: "encode_failed"}.get(
        type(error), "render_failed"
    )
    with transaction() as session:
        fail_take(session, claim, code=code, message=str(error) or type(error).__name__, permanent=permanent)


def _read_work(claim: Claim) -> Work:
    with transaction() as session:
        unit = session.get_one(Unit, claim.unit_id)
        spec = Spec.model_validate(session.get_one(Job, claim.job_id).spec)
        units = session.scalars(select(Unit).where(Unit.job_id == claim.job_id, Unit.kind == "segment")).all()
        waited = session.get_one(Take, claim.take_id).started_at - unit.queued_at
    siblings = {other.position: other for other in units if other.shot == unit.shot}
    total = sum(other.frames for other in units) or 1
    done = sum(other.frames for other in units if other.state == "done")
    return Work(
        spec=spec,
        shot=spec.shots[unit.shot],
        unit=unit,
        previous=siblings.get(unit.position - 1),
        has_next=unit.position + 1 in siblings,
        share_done=done / total,
        share=unit.frames / total,
        waited=waited.total_seconds(),
    )


def _make_clip(work: Work, engine: Engine, control: Control, folder: Path, clip: Path) -> None:
    """Render the segment and stream its frames into the encoder as they are decoded."""
    storage = get_storage()
    model = model_of(work.spec)
    request = _request(work, model, storage, folder)
    writer = ClipWriter(
        clip,
        in_width=request.width,
        in_height=request.height,
        width=work.spec.width,
        height=work.spec.height,
        fps=Fraction(work.spec.fps),
        frames=work.unit.frames,
        key_frames=_key_frames(work),
    )
    with writer:
        for chunk in engine.render(request, control):  # uint8 [f, H, W, 3]
            with engine.meter.stage("encode"):
                writer.write(chunk)
            control.still_alive()
            control.check()
        # Most of the encoder's work was done beside the decoding; what is left is waited for here.
        with engine.meter.stage("encode"):
            writer.close()


def model_of(spec: Spec) -> VideoModel:
    """Return the catalogue entry that a Spec was resolved for."""
    return load_catalog(get_settings().catalog_dir)[spec.model]


def _key_frames(work: Work) -> tuple[int, ...]:
    """Return the frames at which a crossfade may cut this clip, counted from its first frame."""
    overlap = work.spec.crossfade_frames
    return tuple(frame for frame in (overlap, work.unit.frames - overlap) if 0 < frame < work.unit.frames)


def _request(work: Work, model: VideoModel, storage: Storage, folder: Path) -> SegmentRequest:
    spec, shot, unit = work.spec, work.shot, work.unit
    native = model.native[spec.resolution][spec.ratio]
    width, height = native
    first = _picture(spec, shot.first_frame, native, storage, folder) if unit.position == 0 else None
    checkpoints = checkpoint_folder(unit.id)
    fetch_checkpoint(unit, checkpoints)
    last = _picture(spec, shot.last_frame, native, storage, folder) if not work.has_next else None
    return SegmentRequest(
        prompt=told(model, shot.prompt),
        negative_prompt=shot.negative_prompt or model.negative_prompt,
        width=width,
        height=height,
        frames=unit.frames,
        fps=spec.fps,
        seed=segment_seed(spec.seed, unit.shot, unit.position),
        steps=model.steps,
        guidance=model.guidance,
        mode=spec.mode,
        first_frame=first,
        last_frame=last,
        video=_video(work, native, storage, folder),
        strength=float(spec.strength or model.strength),
        handover=_handover(work, storage, folder),
        resolution=spec.resolution,
        checkpoint_dir=checkpoints,
        key=unit.id,
    )


def _picture(spec: Spec, asset_id: str | None, native: tuple[int, int], storage: Storage, folder: Path) -> Any:
    if asset_id is None:
        return None
    path = folder / f"{asset_id}.png"
    with transaction() as session:
        key = asset_key(session, asset_id)
    storage.get_file(key, path)
    return read_picture(path, width=native[0], height=native[1])


def _video(work: Work, native: tuple[int, int], storage: Storage, folder: Path) -> Any:
    """Return the source clip's frames at native size and pace, uint8 [F, H, W, 3], where the mode reads a video."""
    spec, unit = work.spec, work.unit
    if spec.video is None or (spec.mode == "extend" and unit.position > 0):
        return None
    path = folder / "source.mp4"
    with transaction() as session:
        key = asset_key(session, spec.video)
    storage.get_file(key, path)
    pace = Fraction(spec.fps)
    if spec.mode == "extend":
        # The segment continues the clip's last frames, told in the model's own pace.
        length = int(Fraction(spec.video_seconds) * pace)
        wanted = model_of(spec).handover_frames
        return read_frames(
            path, width=native[0], height=native[1], fps=pace, frames_max=wanted, start_frame=max(0, length - wanted)
        )
    before = sum(shot.frames for shot in spec.shots[: unit.shot]) + unit.position * unit.frames
    return read_frames(path, width=native[0], height=native[1], fps=pace, frames_max=unit.frames, start_frame=before)


def _handover(work: Work, storage: Storage, folder: Path) -> Handover | None:
    """Return what the previous segment of the shot left behind, losslessly."""
    if work.previous is None or work.previous.handover_key is None:
        return None
    path = folder / "handover.safetensors"
    storage.get_file(work.previous.handover_key, path)
    return Handover.load(path)


def _upload(claim: Claim, work: Work, engine: Engine, folder: Path, clip: Path) -> tuple[str, str | None]:
    """Store the clip, and the hand-over for the next segment, under keys that hold the take's id."""
    storage = get_storage()
    prefix = f"takes/{claim.job_id}/{claim.take_id}"
    with engine.meter.stage("upload"):
        storage.put_file(f"{prefix}/clip.mp4", clip, "video/mp4")
        handover_key = None
        if work.has_next and engine.handover is not None:
            handover_key = f"{prefix}/handover.safetensors"
            path = folder / "next.safetensors"
            engine.handover.save(path)
            storage.put_file(handover_key, path, "application/octet-stream")
    forget_checkpoints(work.unit.id)
    return f"{prefix}/clip.mp4", handover_key
