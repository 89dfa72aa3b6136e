"""Check that a model can make the requested film; every refusal names the allowed values."""

from collections.abc import Collection
from fractions import Fraction

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.assets.owner import AssetOwner
from app.catalog.memory_estimate import why_too_large
from app.catalog.models import VideoModel, models_that_sound, models_with
from app.catalog.pools import pool_plan
from app.catalog.sizes import Size
from app.errors import AppError
from app.jobs.plan import longest_render
from app.jobs.queue_tables import Worker
from app.jobs.schemas import ShotIn
from app.jobs.spec import Shot, Spec
from app.jobs.states import WorkerState
from app.settings import get_settings
from pricing.rate_key import Mode


def check_model(model: VideoModel, mode: Mode, size: Size) -> None:
    """Raise AppError `mode_unsupported` or `unsupported_size`, with the allowed values, unless this model can."""
    if mode not in model.modes:
        able = sorted(each.id for each in models_with(mode, get_settings().catalog_dir))
        message = f"{model.name} cannot do {mode}; it can do {', '.join(model.modes)}."
        raise AppError("mode_unsupported", message, field="model", mode=mode, allowed=able)
    if model.native_size(size) is None:
        allowed = [f"{resolution} {ratio}" for resolution, ratios in model.native.items() for ratio in ratios]
        message = f"{model.name} cannot make {size.resolution} at {size.ratio}."
        raise AppError("unsupported_size", message, field="size", value=size.name, allowed=allowed)


def check_sound(model: VideoModel) -> None:
    """Raise AppError `sound_unsupported`, with the models that sound, unless this model does."""
    if not model.sound:
        able = sorted(each.id for each in models_that_sound(get_settings().catalog_dir))
        others = f"these do: {', '.join(able)}" if able else "no enabled model does"
        message = f"{model.name} makes no sound; {others}."
        raise AppError("sound_unsupported", message, field="sound", model=model.id, allowed=able)


def check_pictures(model: VideoModel, shots: list[ShotIn], mode: Mode) -> None:
    """Raise AppError `mode_unsupported` when a shot lacks a picture that the model needs, or has one it cannot use.

    A model without t2v needs a first picture for every shot; the error names the models that can make the request.
    """
    for number, shot in enumerate(shots):
        prefix = f"shots.{number}." if len(shots) > 1 else ""
        if shot.last_frame and model.last_frame == "no":
            problem, field = f"{model.name} cannot end a shot on a given picture.", "last_frame"
        elif model.last_frame == "required" and not (shot.first_frame and shot.last_frame):
            problem, field = f"{model.name} needs a start and an end frame.", "last_frame"
        elif mode == "i2v" and "t2v" not in model.modes and not shot.first_frame:
            problem, field = f"{model.name} needs a start frame for each shot.", "first_frame"
        else:
            continue
        able = sorted(each.id for each in models_with("i2v", get_settings().catalog_dir) if _can_show(each, shot))
        raise AppError("mode_unsupported", problem, field=f"{prefix}{field}", mode=mode, allowed=able)


def _can_show(model: VideoModel, shot: ShotIn) -> bool:
    """Return whether a model with the mode i2v can make a shot with just these pictures."""
    if shot.last_frame is None:
        return model.last_frame != "required" and (shot.first_frame is not None or "t2v" in model.modes)
    return model.last_frame != "no" and (shot.first_frame is not None or "t2v" in model.modes)


def check_length(
    model: VideoModel, shots: tuple[Shot, ...], *, fps: int, listed: bool, before: Fraction = Fraction(0)
) -> None:
    """Raise AppError `invalid_request` for too many shots, or a shot or film that is too long for the model.

    `listed` means that the request listed its shots, so that the error names the field of the request; `before` are
    the seconds of a film that the shots extend.
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


def check_gpu(session: Session, owner: AssetOwner, spec: Spec, model: VideoModel) -> None:
    """Raise AppError `does_not_fit` when a render of the Spec fits no worker of its pool, nor one that may be started.

    The error names the sizes that fit, or else the models that can make this size. Accepted without a check are orders
    while nothing is known of the pool or one of its workers has not reported its GPU, and test orders, for which no
    model is loaded.
    """
    if owner.test or model.architecture is None:
        return
    memory, frames = _most_memory(session, model), longest_render(spec, model)
    if memory is None or not frames:
        return
    sides = model.native[spec.resolution][spec.ratio]
    if memory:
        problem = why_too_large(model, *sides, frames, memory)
    else:
        problem = f"{model.id} needs a GPU with {', '.join(model.requires)}; no worker of its pool has one."
    if problem is None:
        return
    allowed = [
        f"{resolution} {ratio}"
        for resolution, ratios in model.native.items()
        for ratio, sides in ratios.items()
        if memory and why_too_large(model, *sides, frames, memory) is None
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
    """Return whether a worker of the model's pool can make its longest segment at the Spec's size."""
    memory = _most_memory(session, model)
    sides = model.native[spec.resolution][spec.ratio]
    return memory is None or (memory > 0 and why_too_large(model, *sides, model.frames_max, memory) is None)


def _most_memory(session: Session, model: VideoModel) -> int | None:
    """Return the bytes of the largest GPU of the model's pool that can do what the model requires, 0 where none can.

    Counted are registered workers and the classes that an autoscaler may start. None means that anything may fit: there
    are neither, or a worker has not reported its memory.
    """
    workers = select(Worker.memory_mb, Worker.features, Worker.facts["memory_bytes"]).where(
        Worker.state != WorkerState.GONE, Worker.pools.contains([model.pool])
    )
    gpus: list[tuple[int, Collection[str] | None]] = []
    for memory_mb, features, memory_bytes in session.execute(workers):
        if memory_mb is None and memory_bytes is not None:
            # The code before revision 0052 registers its workers without the column, beside this one too.
            memory_mb = int(memory_bytes) // 2**20
        if memory_mb is None:
            return None
        gpus.append((memory_mb, features))
    plan = pool_plan(model.pool, get_settings().catalog_dir)
    gpus += [(each.memory_mb, each.features) for each in plan.gpus if each.workers_max > 0]
    able = [memory_mb for memory_mb, features in gpus if features is None or set(model.requires) <= set(features)]
    return max(able, default=0) * 2**20 if gpus else None
