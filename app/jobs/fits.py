"""Whether a model can make what is asked; every refusal names what is allowed."""

from fractions import Fraction

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.caller import Caller
from app.catalog.arithmetic import why_too_large
from app.catalog.models import VideoModel, models_with
from app.catalog.sizes import Size
from app.errors import AppError
from app.jobs.plan import longest_render
from app.jobs.queue_tables import Worker
from app.jobs.shapes import ShotIn
from app.jobs.spec import Mode, Shot, Spec
from app.settings import get_settings


def check_model(model: VideoModel, mode: Mode, size: Size) -> None:
    """Raise AppError `mode_unsupported` or `unsupported_size`, naming what can do it, unless this model can."""
    if mode not in model.modes:
        able = sorted(each.id for each in models_with(mode, get_settings().catalog_dir))
        message = f"{model.name} cannot do {mode}; it can do {', '.join(model.modes)}."
        raise AppError("mode_unsupported", message, field="model", mode=mode, allowed=able)
    if model.native_size(size) is None:
        allowed = [f"{resolution} {ratio}" for resolution, ratios in model.native.items() for ratio in ratios]
        message = f"{model.name} cannot make {size.resolution} at {size.ratio}."
        raise AppError("unsupported_size", message, field="size", value=size.name, allowed=allowed)


def check_pictures(model: VideoModel, shots: list[ShotIn], mode: Mode) -> None:
    """Raise AppError `mode_unsupported` where a shot lacks a picture that the model needs, or has one it cannot use.

    A model that follows no text alone needs a first picture for every shot; the error names the models that can.
    """
    for number, shot in enumerate(shots):
        place = f"shots.{number}." if len(shots) > 1 else ""
        if shot.last_frame and model.last_frame == "no":
            problem, field = f"{model.name} cannot end a shot on a given picture.", "last_frame"
        elif model.last_frame == "required" and not (shot.first_frame and shot.last_frame):
            problem, field = f"{model.name} needs a first and a last picture.", "last_frame"
        elif mode == "i2v" and "t2v" not in model.modes and not shot.first_frame:
            problem, field = f"{model.name} needs a first picture for each shot.", "first_frame"
        else:
            continue
        able = sorted(each.id for each in models_with("i2v", get_settings().catalog_dir) if _can_show(each, shot))
        raise AppError("mode_unsupported", problem, field=f"{place}{field}", mode=mode, allowed=able)


def _can_show(model: VideoModel, shot: ShotIn) -> bool:
    """Whether a model with the mode i2v can begin and end a shot with the pictures that it has and lacks."""
    if shot.last_frame is None:
        return model.last_frame != "required" and (shot.first_frame is not None or "t2v" in model.modes)
    return model.last_frame != "no" and (shot.first_frame is not None or "t2v" in model.modes)


def check_length(
    model: VideoModel, shots: tuple[Shot, ...], *, fps: int, listed: bool, before: Fraction = Fraction(0)
) -> None:
    """Raise AppError `invalid_request` for too many shots, a shot or a film that is too long for the model.

    `listed` says that the request listed its shots, so that the error names the field that the caller wrote; `before`
    are the seconds of a film that the shots are added to.
    """
    if len(shots) > model.shots_max:
        message = f"{model.name} makes at most {model.shots_max} shots a film."
        raise AppError("invalid_request", message, field="shots", value=len(shots), allowed=f"1 to {model.shots_max}")
    for number, shot in enumerate(shots):
        if shot.seconds > model.shot_seconds_max:
            field = f"shots.{number}.seconds" if listed else "seconds"
            allowed = f"1 to {model.shot_seconds_max}"
            message = f"{model.name} makes shots of at most {model.shot_seconds_max} seconds."
            raise AppError("invalid_request", message, field=field, value=shot.seconds, allowed=allowed)
        model.segments(shot.frames, fps)
    total = sum(shot.seconds for shot in shots)
    if before + total > model.film_seconds_max:
        left = int(model.film_seconds_max - before)
        allowed = f"1 to {left}" if left else "none: the film is as long as it can be"
        message = f"{model.name} makes films of at most {model.film_seconds_max} seconds."
        raise AppError("invalid_request", message, field="seconds", value=total, allowed=allowed)


def check_memory(session: Session, caller: Caller, spec: Spec, model: VideoModel) -> None:
    """Raise AppError `does_not_fit` where a render of the Spec needs more memory than any worker of its pool has.

    The error names the sizes that fit, or where none does the models that can make this one. What cannot be known is
    accepted: where nobody serves the pool now, or somebody does who has not told their memory. So are test orders, for
    which no model is loaded.
    """
    if caller.test or model.architecture is None:
        return
    memory, frames = _most_memory(session, model.pool), longest_render(spec, model)
    if memory is None or not frames:
        return
    sides = model.native[spec.resolution][spec.ratio]
    problem = why_too_large(model, *sides, frames, memory)
    if problem is None:
        return
    allowed = [
        f"{resolution} {ratio}"
        for resolution, ratios in model.native.items()
        for ratio, sides in ratios.items()
        if why_too_large(model, *sides, frames, memory) is None
    ]
    if allowed:
        raise AppError("does_not_fit", problem, field="size", value=f"{spec.width}x{spec.height}", allowed=allowed)
    able = [
        each.id
        for each in models_with(spec.mode, get_settings().catalog_dir)
        if each.architecture is not None
        and spec.ratio in each.native.get(spec.resolution, {})
        and _fits_whatever_its_length(session, spec, each)
    ]
    raise AppError("does_not_fit", problem, field="model", value=model.id, allowed=sorted(able))


def _fits_whatever_its_length(session: Session, spec: Spec, model: VideoModel) -> bool:
    """Whether a worker of another model's pool can make the longest segment of that model at the Spec's size."""
    memory = _most_memory(session, model.pool)
    sides = model.native[spec.resolution][spec.ratio]
    return memory is None or why_too_large(model, *sides, model.frames_max, memory) is None


def _most_memory(session: Session, pool: str) -> int | None:
    """Return the most memory that a worker of a pool has, in bytes, or None where nobody serves it or one is silent."""
    facts = session.scalars(select(Worker.facts).where(Worker.state != "gone", Worker.pools.contains([pool])))
    told = [each.get("memory_bytes") for each in facts]
    return None if not told or None in told else max(told)
