"""What a segment is made from: its words, pictures, source clip and hand-over, fetched and put into one request."""

from fractions import Fraction
from pathlib import Path

from app.assets.find import asset_key
from app.catalog.vocabulary import told
from app.db import transaction
from app.storage import get_storage
from workers.checkpoints import checkpoint_folder
from workers.engine import Handover, SegmentRequest, segment_seed
from workers.engine.request import Frames
from workers.film.frames import read_frames, read_picture
from workers.folders import new_folder
from workers.work import Work

Size = tuple[int, int]


def request_of(work: Work) -> SegmentRequest:
    """Return the request that renders a segment, with all that it reads already fetched from storage.

    The same segment gives the same request on every worker and in every attempt, so it may be made ahead of the
    claim. Raises FileNotFoundError and StorageError where an input cannot be had, FilmError where it cannot be read.
    """
    spec, shot, unit, model = work.spec, work.shot, work.unit, work.model
    native = model.native[spec.resolution][spec.ratio]
    with new_folder("inputs") as folder:
        place = Path(folder) / "input"
        return SegmentRequest(
            prompt=told(model, shot.prompt),
            negative_prompt=shot.negative_prompt or model.negative_prompt,
            width=native[0],
            height=native[1],
            frames=unit.frames,
            fps=spec.fps,
            seed=segment_seed(spec.seed, unit.shot, unit.position),
            steps=model.steps,
            guidance=model.guidance,
            mode=spec.mode,
            first_frame=_picture(shot.first_frame, native, place) if unit.position == 0 else None,
            last_frame=_picture(shot.last_frame, native, place) if not work.has_next else None,
            video=_video(work, native, place),
            strength=float(spec.strength or model.strength),
            handover=_handover(work, place),
            resolution=spec.resolution,
            checkpoint_dir=checkpoint_folder(unit.id),
            key=unit.id,
        )


def _picture(asset_id: str | None, native: Size, place: Path) -> Frames | None:
    if asset_id is None:
        return None
    _fetch_asset(asset_id, place)
    return read_picture(place, width=native[0], height=native[1])


def _video(work: Work, native: Size, place: Path) -> Frames | None:
    """Return the source clip's frames at native size and pace, uint8 [F, H, W, 3], where the mode reads a video."""
    spec, unit = work.spec, work.unit
    if spec.video is None or (spec.mode == "extend" and unit.position > 0):
        return None
    _fetch_asset(spec.video, place)
    # The model reads every native frame; what an upscaler draws between them is left out.
    pace = work.model.pace(spec.fps)
    # A clip is made anew as one shot, so the place in the shot is the place in the clip.
    start, count = work.frames_before, unit.frames
    if spec.mode == "extend":
        # The clip is the film that the shots before this one are; its last frames are continued. The last one that is
        # read is one native frame before the first new one.
        end = sum(shot.frames for shot in spec.shots[: unit.shot])
        count = pace * min(work.model.handover_frames, max(1, end // pace))
        start = max(0, end - count)
    frames = read_frames(
        place, width=native[0], height=native[1], fps=Fraction(spec.fps), frames_max=count, start_frame=start
    )
    return frames[::pace]


def _handover(work: Work, place: Path) -> Handover | None:
    """Return what the previous segment of the shot left behind, losslessly."""
    if work.previous is None or work.previous.handover_key is None:
        return None
    get_storage().get_file(work.previous.handover_key, place)
    return Handover.load(place)


def _fetch_asset(asset_id: str, place: Path) -> None:
    with transaction() as session:
        key = asset_key(session, asset_id)
    get_storage().get_file(key, place)
