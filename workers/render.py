"""The story of one take: gather its inputs, render, encode, and give it to the tail, which uploads and ends it."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import chain

from sqlalchemy.orm import Session

from app.dispatch.claim import Claim
from app.dispatch.lease import succeed_segment
from app.storage import get_storage
from workers.ahead import Ahead
from workers.attempt import Attempt
from workers.checkpoints import CheckpointKeeper, fetch_checkpoint, forget_checkpoints
from workers.endings import end_surely
from workers.engine import Engine, Handover, Meter, SegmentRequest
from workers.film.clip_writer import ClipWriter
from workers.tail import Tail
from workers.work import Work


@dataclass(frozen=True)
class Rendered:
    """What a render leaves for the tail. The engine begins a new meter and hand-over with its next render."""

    writer: ClipWriter
    meter: Meter
    handover: Handover | None


def render(claim: Claim, load: Callable[[], Engine], tail: Tail, ahead: Ahead) -> None:
    """Render one claimed segment and give it to the tail. Whatever happens, the take ends or its lease runs out.

    `load` gives the engine of the claim's model. It is called under the heartbeat, because loading a large model
    takes longer than a lease. While the tail uploads, the caller may claim and render the next take.
    """
    attempt = Attempt(claim)
    with attempt.ends_on_error():
        engine = load()
        request = ahead.request_for(attempt.work)
        rendered = _render(attempt, engine, request, lambda: ahead.look(engine, claim.pool, claim.model))
        tail.give(partial(_deliver, attempt, rendered))


def _render(attempt: Attempt, engine: Engine, request: SegmentRequest, look_ahead: Callable[[], None]) -> Rendered:
    """Render the segment and stream its frames into the encoder as they are decoded."""
    work, control, last = attempt.work, attempt.control, engine.meter
    # The engine begins a new one with the render; until then it still has the last take's.
    attempt.meter = lambda: None if engine.meter is last else engine.meter
    if work.unit.checkpoint_key is not None and request.checkpoint_path is not None:
        fetch_checkpoint(work.unit.checkpoint_key, request.checkpoint_path)
    keeper = CheckpointKeeper(attempt.claim)
    attempt.leaving.callback(keeper.close)
    attempt.before_giving_back = keeper.flush
    control.keep_checkpoints(keeper.offer)
    # Once for what is there now, beside the denoising; and once more when its end has come, for what came meanwhile.
    control.after_first_step(look_ahead)
    with closing(engine.render(request, control)) as chunks:
        first = next(chunks)
        # An engine with an upscaler draws larger frames than the model's own, so the first ones say their size.
        writer = _encoder(attempt, width=first.shape[2], height=first.shape[1])
        look_ahead()
        for chunk in chain((first,), chunks):  # uint8 [f, H, W, 3]
            with engine.meter.stage("encode"):
                writer.write(chunk)
            control.still_alive()
            control.check()
    return Rendered(writer, engine.meter, engine.handover)


def _encoder(attempt: Attempt, *, width: int, height: int) -> ClipWriter:
    """Return the writer of the segment's clip, for frames of this size in pixels; it is ended with the attempt."""
    work = attempt.work
    writer = ClipWriter(
        attempt.folder / "clip.mp4",
        in_width=width,
        in_height=height,
        width=work.spec.width,
        height=work.spec.height,
        fps=Fraction(work.spec.fps),
        frames=work.unit.frames,
        key_frames=_key_frames(work),
    )
    attempt.leaving.callback(writer.abort)
    return writer


def _key_frames(work: Work) -> tuple[int, ...]:
    """Return the frames at which a crossfade may cut this clip, counted from its first frame."""
    overlap = work.spec.crossfade_frames
    return tuple(frame for frame in (overlap, work.unit.frames - overlap) if 0 < frame < work.unit.frames)


def _deliver(attempt: Attempt, rendered: Rendered) -> None:
    """End a rendered take: finish its file, store it, and let the segment count. Runs on the tail's thread."""
    attempt.meter = lambda: rendered.meter
    with attempt.ends_on_error():
        attempt.control.still_alive()
        # Most of the encoder's work was done beside the decoding; what is left is waited for here.
        with rendered.meter.stage_beside("encode"):
            rendered.writer.close()
        attempt.control.check()
        with rendered.meter.stage_beside("upload"):
            clip_key, handover_key = _upload(attempt, rendered)
        attempt.control.check()
    if not attempt.has_ended:
        attempt.end(partial(_succeed, attempt, rendered, clip_key, handover_key))


def _upload(attempt: Attempt, rendered: Rendered) -> tuple[str, str | None]:
    """Store the clip, and the hand-over for the next segment, under keys that hold the take's id."""
    claim, storage = attempt.claim, get_storage()
    prefix = f"takes/{claim.job_id}/{claim.take_id}"
    storage.put_file(f"{prefix}/clip.mp4", rendered.writer.path, "video/mp4")
    attempt.control.still_alive()
    handover_key = None
    if attempt.work.has_next and rendered.handover is not None:
        handover_key = f"{prefix}/handover.safetensors"
        path = attempt.folder / "next.safetensors"
        rendered.handover.save(path)
        storage.put_file(handover_key, path, "application/octet-stream")
    return f"{prefix}/clip.mp4", handover_key


def _succeed(attempt: Attempt, rendered: Rendered, clip_key: str, handover_key: str | None) -> None:
    meter = rendered.meter
    meter.add("queue", attempt.waited)

    def succeed(session: Session) -> None:
        succeed_segment(session, attempt.claim, clip_key=clip_key, handover_key=handover_key, meter=meter.as_dict())

    end_surely(attempt.claim, succeed, lambda: attempt.is_lost)
    forget_checkpoints(attempt.work.unit.id)
