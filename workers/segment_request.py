"""Build the engine's request for a segment: prompt, pictures, source clip and continuation, fetched from storage."""

from fractions import Fraction
from pathlib import Path

from app.assets.find import asset_key
from app.catalog.demo_terms import model_prompt
from app.db import transaction
from app.storage import get_storage
from workers.checkpoints import checkpoint_folder
from workers.engine import Continuation, SegmentRequest, segment_seed
from workers.engine.request import Frames
from workers.film.frames import read_frames, read_picture
from workers.segment_input import SegmentInput
from workers.temp_dirs import make_temp_dir

Size = tuple[int, int]


def build_segment_request(segment: SegmentInput) -> SegmentRequest:
    """Return the request that renders a segment, with all of its inputs fetched from storage.

    The same segment gives the same request on every worker and in every take, so it may be built before the claim.
    Raises FileNotFoundError and StorageError where an input cannot be fetched, FilmError where it cannot be read.
    """
    spec, shot, unit, model = segment.spec, segment.shot, segment.unit, segment.model
    native = model.native[spec.resolution][spec.ratio]
    with make_temp_dir("inputs") as folder:
        path = Path(folder) / "input"
        return SegmentRequest(
            prompt=model_prompt(model, shot.prompt),
            negative_prompt=shot.negative_prompt or model.negative_prompt,
            width=native[0],
            height=native[1],
            frames=unit.frames,
            fps=spec.fps,
            seed=segment_seed(spec.seed, unit.shot, unit.position),
            steps=model.steps,
            guidance=model.guidance,
            mode=spec.mode,
            first_frame=_picture(shot.first_frame, native, path) if unit.position == 0 else None,
            last_frame=_picture(shot.last_frame, native, path) if not segment.has_next else None,
            video=_video(segment, native, path),
            strength=float(spec.strength or model.strength),
            handover=_handover(segment, path),
            resolution=spec.resolution,
            checkpoint_dir=checkpoint_folder(unit.id),
            key=unit.id,
            sound=spec.sound,
        )


def _picture(asset_id: str | None, native: Size, path: Path) -> Frames | None:
    if asset_id is None:
        return None
    _fetch_asset(asset_id, path)
    return read_picture(path, width=native[0], height=native[1])


def _video(segment: SegmentInput, native: Size, path: Path) -> Frames | None:
    """Return the source clip's frames in native size and at the model's own rate, uint8 [F, H, W, 3], or None."""
    spec, unit = segment.spec, segment.unit
    if spec.video is None or (spec.mode == "extend" and unit.position > 0):
        return None
    _fetch_asset(spec.video, path)
    # The model reads every native frame; what an upscaler draws between them is left out.
    pace = segment.model.pace(spec.fps)
    # The whole clip is one shot, so a position in the shot is the position in the clip.
    start, count = segment.frames_before, unit.frames
    if spec.mode == "extend":
        # The clip is the film of the shots before this one; its last frames are continued. The last one that is read
        # is one native frame before the first new one.
        end = sum(shot.frames for shot in spec.shots[: unit.shot])
        count = pace * min(segment.model.handover_frames, max(1, end // pace))
        start = max(0, end - count)
    frames = read_frames(
        path, width=native[0], height=native[1], fps=Fraction(spec.fps), frames_max=count, start_frame=start
    )
    return frames[::pace]


def _handover(segment: SegmentInput, path: Path) -> Continuation | None:
    """Return the lossless last frames of the previous segment of the shot."""
    if segment.previous is None or segment.previous.handover_key is None:
        return None
    get_storage().get_file(segment.previous.handover_key, path)
    return Continuation.load(path)


def _fetch_asset(asset_id: str, path: Path) -> None:
    with transaction() as session:
        key = asset_key(session, asset_id)
    get_storage().get_file(key, path)
