"""The take of a segment: load the model, render and encode, store the clip, and let the segment count."""

from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.db import transaction
from app.dispatch.claim import Claim
from app.dispatch.lease import succeed_segment
from app.jobs.queue_tables import Take
from app.jobs.sound_files import sound_key
from app.provenance.manifest import FilmOrigin
from app.storage import get_storage
from workers.checkpoints import CheckpointUploader, fetch_checkpoint, forget_checkpoints
from workers.engine import Continuation, Engine, Meter, SegmentRequest, Sound
from workers.engine.request import Frames
from workers.engine_cache import EngineCache
from workers.film.clip_writer import ClipWriter
from workers.film.sound_file import write_sound
from workers.film_marks import film_origin, metadata, sign
from workers.frame_marks import FrameMarks
from workers.prefetch import Prefetcher
from workers.render_control import RENDERING_SHARE, TakeControl
from workers.running_take import RunningTake
from workers.segment_input import SegmentInput, read_segment_input
from workers.segment_sound import sold_sound


@dataclass(frozen=True)
class Rendered:
    """What a render leaves for the upload. The engine begins a new meter and continuation with its next render."""

    writer: ClipWriter
    meter: Meter
    handover: Continuation | None
    sound: Sound | None


class SegmentControl(TakeControl):
    """A render's control that also stores its checkpoints and starts the prefetch of the next segment."""

    def __init__(self, checkpoints: CheckpointUploader, prefetcher: Prefetcher) -> None:
        super().__init__()
        self._checkpoints = checkpoints
        self._prefetcher = prefetcher
        self._has_prefetched = False

    def on_step(self, step: int, steps: int, preview: Frames | None = None) -> None:
        """Record the step. After the first one the render's own text and pictures are encoded: prefetch the next."""
        super().on_step(step, steps, preview)
        if not self._has_prefetched:
            self._has_prefetched = True
            self._prefetcher.look()

    def on_checkpoint(self, path: Path) -> None:
        """Store a completed checkpoint file where other workers find it."""
        self._checkpoints.offer(path)


class SegmentTake(RunningTake):
    """Renders one segment. Its upload may overlap with the render of the next take."""

    _segment: SegmentInput
    _request: SegmentRequest
    _origin: FilmOrigin
    _queue_seconds: float
    _handover_key: str | None = None

    def __init__(self, claim: Claim, engines: EngineCache, prefetcher: Prefetcher) -> None:
        self._checkpoints = CheckpointUploader(claim)
        super().__init__(claim, SegmentControl(self._checkpoints, prefetcher))
        self.cleanup.callback(self._checkpoints.close)
        self._engines = engines
        self._prefetcher = prefetcher
        self._engine: Engine | None = None
        self._last_meter: Meter | None = None
        self._rendered: Rendered | None = None
        self._prefix = f"takes/{claim.job_id}/{claim.take_id}"
        self._clip_key = f"{self._prefix}/clip.mp4"

    def open(self) -> None:
        """Read the segment, load its model, and fetch its inputs and its last checkpoint."""
        with transaction() as session:
            self._segment = read_segment_input(session, self.claim.unit_id)
            self._queue_seconds = queue_seconds(session, self._segment, self.claim)
            self._origin = film_origin(session, self.claim.job_id, self._segment.spec)
        self.control.set_share(RENDERING_SHARE * self._segment.share_done, RENDERING_SHARE * self._segment.share)
        with self.control.loading():
            engine = self._engines.engine_for(self.claim)
        # The engine begins a new meter with the render; until then it still has the last take's.
        self._engine, self._last_meter = engine, engine.meter
        self._request = self._prefetcher.request_for(self._segment)
        self._prefetcher.follow(engine, self.claim.pool, self.claim.model)
        checkpoint_key, checkpoint_path = self._segment.unit.checkpoint_key, self._request.checkpoint_path
        if checkpoint_key is not None and checkpoint_path is not None:
            fetch_checkpoint(checkpoint_key, checkpoint_path)

    def render(self) -> None:
        """Render the segment and stream its frames into the encoder as they are decoded."""
        engine = self._engine
        assert engine is not None
        with closing(engine.render(self._request, self.control)) as chunks:
            first = next(chunks)
            # An engine with an upscaler draws larger frames than the model's own, so the first ones say their size.
            writer = self._open_encoder(width=first.shape[2], height=first.shape[1])
            marks = FrameMarks(self._segment, first[0])
            # The control looked after the first step; look once more for what was ordered since.
            self._prefetcher.look()
            for chunk in chain((first,), chunks):  # uint8 [f, H, W, 3]
                with engine.meter.stage("marks"):
                    chunk = marks.draw(chunk)
                with engine.meter.stage("encode"):
                    writer.write(chunk)
                self.control.mark_progress()
                self.control.check()
        request = self._request
        sound = sold_sound(engine.sound, frames=request.frames, fps=request.fps) if request.sound else None
        self._rendered = Rendered(writer, engine.meter, engine.handover, sound)

    def upload(self) -> None:
        """Finish the clip's file and store it, with its sound and the continuation for the next segment."""
        rendered = self._rendered
        assert rendered is not None
        self.control.mark_progress()
        self.control.forget_pace()
        # Before the clip: a clip that is stored has its sound. The encoder goes on meanwhile.
        with rendered.meter.stage_in_background("upload"):
            self._store_sound(rendered)
        # Most of the encoder's work was done during the decoding; wait here for the rest.
        with rendered.meter.stage_in_background("encode"):
            rendered.writer.close()
        self.control.check()
        # A finished shot plays before its film is joined, so its clips say what they are too.
        with rendered.meter.stage_in_background("marks"):
            sign(rendered.writer.path, self.folder / "signed.mp4", self._origin)
        with rendered.meter.stage_in_background("upload"):
            self._store(rendered)
        rendered.meter.add("queue", self._queue_seconds)

    def commit_take(self) -> None:
        """End the take as succeeded; its checkpoints are of no more use."""
        super().commit_take()
        forget_checkpoints(self._segment.unit.id)

    def succeed(self, session: Session) -> None:
        """Let the segment count. Raises LeaseLost."""
        meter = self.meter()
        assert meter is not None
        succeed_segment(session, self.claim, clip_key=self._clip_key, handover_key=self._handover_key, meter=meter)

    def save_progress(self) -> None:
        """Wait until the newest checkpoint is stored, so that another worker can resume from it."""
        self._checkpoints.flush()

    def meter(self) -> dict[str, Any] | None:
        """Return the meter of this take's own render, or None before it began."""
        if self._rendered is not None:
            return self._rendered.meter.as_dict()
        if self._engine is None or self._engine.meter is self._last_meter:
            return None
        return self._engine.meter.as_dict()

    def _open_encoder(self, *, width: int, height: int) -> ClipWriter:
        """Return the writer of the segment's clip, for frames of this size in pixels; it is closed with the take."""
        segment = self._segment
        writer = ClipWriter(
            self.folder / "clip.mp4",
            in_width=width,
            in_height=height,
            width=segment.spec.width,
            height=segment.spec.height,
            fps=Fraction(segment.spec.fps),
            frames=segment.unit.frames,
            key_frames=_key_frames(segment),
            metadata=metadata(self.claim.job_id),
        )
        self.cleanup.callback(writer.abort)
        return writer

    def _store_sound(self, rendered: Rendered) -> None:
        if rendered.sound is not None:
            path = self.folder / "sound.flac"
            write_sound(path, rendered.sound.samples, rate=rendered.sound.rate)
            get_storage().put_file(sound_key(self._clip_key), path, "audio/flac")
            self.control.mark_progress()

    def _store(self, rendered: Rendered) -> None:
        storage = get_storage()
        storage.put_file(self._clip_key, self.folder / "signed.mp4", "video/mp4")
        self.control.mark_progress()
        if self._segment.has_next and rendered.handover is not None:
            self._handover_key = f"{self._prefix}/handover.safetensors"
            path = self.folder / "next.safetensors"
            rendered.handover.save(path)
            storage.put_file(self._handover_key, path, "application/octet-stream")


def _key_frames(segment: SegmentInput) -> tuple[int, ...]:
    """Return the frames at which a crossfade may cut this clip, counted from its first frame."""
    overlap, frames = segment.spec.crossfade_frames, segment.unit.frames
    return tuple(frame for frame in (overlap, frames - overlap) if 0 < frame < frames)


def queue_seconds(session: Session, segment: SegmentInput, claim: Claim) -> float:
    """Return the seconds that the unit was ready before this take: since its order, its predecessor or its last take.

    The time in which a segment is blocked by the one before it is not queueing, and neither is that of earlier takes.
    """
    started_at = session.get_one(Take, claim.take_id).started_at
    earlier = session.scalar(select(func.max(Take.ended_at)).where(Take.unit_id == claim.unit_id))
    previous = segment.previous.done_at if segment.previous is not None else None
    since = max(moment for moment in (segment.unit.queued_at, previous, earlier) if moment is not None)
    return max(0.0, (started_at - since).total_seconds())
