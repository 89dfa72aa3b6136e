"""Whether a model can make what is asked; every refusal names what is allowed."""

from fractions import Fraction

from app.catalog.models import VideoModel, models_with
from app.catalog.sizes import Size
from app.errors import AppError
from app.jobs.shapes import ShotIn
from app.jobs.spec import Mode, Shot
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


def check_length(model: VideoModel, shots: tuple[Shot, ...], *, listed: bool, before: Fraction = Fraction(0)) -> None:
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
        model.segments(shot.frames)
    total = sum(shot.seconds for shot in shots)
    if before + total > model.film_seconds_max:
        left = int(model.film_seconds_max - before)
        allowed = f"1 to {left}" if left else "none: the film is as long as it can be"
        message = f"{model.name} makes films of at most {model.film_seconds_max} seconds."
        raise AppError("invalid_request", message, field="seconds", value=total, allowed=allowed)
