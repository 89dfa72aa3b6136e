"""Fields that other servers of /v1/videos know, in native terms: vLLM-Omni, SGLang, LiteLLM and OpenRouter.

A field that says the same as a native one is renamed. One that sets what the model sets here (steps, guidance) is
taken out with a warning. What is left is judged by the native schema.
"""

import json
import re
from collections.abc import Callable
from typing import Any

from app.api.body_checks import check_json
from app.api.text_validation import require_text
from app.catalog.models import VideoModel, load_catalog
from app.errors import AppError
from app.jobs.order_warnings import OrderWarning
from app.settings import get_settings

Values = dict[str, Any]

# Fields that a form carries as JSON text.
JSON_TEXT = (
    *("metadata", "extra_params", "extra_body", "frame_images", "lora", "retention"),
    *("input_reference", "image_reference", "video_reference", "audio_reference"),
)
# Enough digits for every count of pixels, frames and seconds.
_WHOLE = re.compile(r"([+-]?[0-9]{1,9})(?:\.0*)?")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
# Their fields are read as if they stood beside the others.
NESTED = ("extra_params", "extra_body")
RENAMED = {
    "duration": "seconds",
    "aspect_ratio": "ratio",
    "generate_sound": "generate_audio",
    **dict.fromkeys(("num_outputs_per_prompt", "num_outputs", "num_videos", "sample_count"), "n"),
}
# A picture, clip or sound by URL or id, alone or in a list: the native field, and the key of the URL.
REFERENCES = {
    "input_reference": ("first_frame", "image_url"),
    "image_reference": ("first_frame", "image_url"),
    "video_reference": ("video", "video_url"),
    "audio_reference": ("audio", "audio_url"),
}
# What the model sets here: it is in `resolved`, and the price does not depend on it.
SET_BY_MODEL = frozenset(
    (
        *("num_inference_steps", "guidance_scale", "guidance_scale_2", "true_cfg_scale", "boundary_ratio"),
        *("flow_shift", "max_sequence_length", "sound_duration", "quality", "output_quality", "output_compression"),
        *("x264_preset", "output_format", "enable_teacache", "diffusers_kwargs", "profile", "task_type"),
        *("return_stage_metrics", "enhance_prompt", "prompt_extend", "response_format", "fps"),
    )
)
# Switches that ask for nothing while they are off, and details that ask for nothing without their switch.
OFF_ONLY = ("enable_frame_interpolation", "enable_upscaling")
DETAILS = ("frame_interpolation_exp", "frame_interpolation_scale", "frame_interpolation_model_path")


def translate_dialect(values: Values, *, is_strict: bool) -> list[OrderWarning]:
    """Change the fields of other servers into native ones, in place, and return what the caller should know.

    Strict handling leaves the fields that the model sets here in place, so that they are refused by name. Raises
    AppError `invalid_request` for fields that contradict each other or cannot be read.
    """
    for read in (_read_json_text, _merge_nested, _read_references, _read_frames, _rename, _read_user, _read_model):
        read(values)
    _read_size(values)
    _read_length(values)
    _remove_same_rate(values)
    for name in OFF_ONLY:
        if values.get(name) in (False, "false", None):
            for detail in (name, *DETAILS):
                values.pop(detail, None)
    if is_strict:
        return []
    names = [name for name in values if name in SET_BY_MODEL]
    for name in names:
        del values[name]
    return [OrderWarning("set_by_model", f"{name} is set by the model here; see resolved.", name) for name in names]


def parse_whole(value: Any) -> int | None:
    """Return an integer that is written as a number or as text (`5`, `"5"`, `"5.0"`), or None for anything else.

    Text with an exponent is not accepted: a few characters could name a number that takes minutes to compute.
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    whole = _WHOLE.fullmatch(str(value).strip())
    return int(whole[1]) if whole else None


def _read_json_text(values: Values) -> None:
    for name in JSON_TEXT:
        text = values.get(name)
        if isinstance(text, str) and text.lstrip()[:1] in ("{", "["):
            check_json(text.encode("utf-8", "replace"))
            try:
                values[name] = json.loads(text, parse_float=str)
            except (ValueError, RecursionError) as error:
                raise AppError("invalid_request", f"{name} is not valid JSON.", field=name) from error
            require_text({name: values[name]})


def _merge_nested(values: Values) -> None:
    for name in NESTED:
        nested = values.get(name)
        if isinstance(nested, dict):
            del values[name]
            for inner, value in nested.items():
                _set(values, inner, value, f"{name}.{inner}")
        elif nested is None:
            values.pop(name, None)


def _read_references(values: Values) -> None:
    for name, (native, key) in REFERENCES.items():
        reference = values.get(name)
        if isinstance(reference, list):
            if len(reference) != 1:
                message = f"{name} accepts one file; several references are not supported."
                raise AppError("invalid_request", message, field=name, allowed=1)
            reference = reference[0]
        if reference is not None:
            _set(values, native, url_of(reference, key, field=name), name)
        values.pop(name, None)


def url_of(reference: Any, key: str, *, field: str) -> str:
    """Return the URL or id in a reference: text, `{key: text}`, `{key: {"url": text}}`, `file_id` or `url`.

    Raises AppError `invalid_request`.
    """
    while isinstance(reference, dict):
        reference = reference.get(key) or reference.get("url") or reference.get("file_id")
    if not isinstance(reference, str):
        raise AppError("invalid_request", f"{field} needs {key} or file_id.", field=field, allowed=[key, "file_id"])
    return reference


def _read_frames(values: Values) -> None:
    """Read OpenRouter's `frame_images[{type, image_url{url}, frame_type}]`."""
    frames = values.pop("frame_images", None)
    if frames is None:
        return
    for number, frame in enumerate(frames if isinstance(frames, list) else [None]):
        field = f"frame_images.{number}"
        kind = frame.get("frame_type", "first_frame") if isinstance(frame, dict) else None
        if kind not in ("first_frame", "last_frame"):
            allowed = ["first_frame", "last_frame"]
            message = f"{field}.frame_type must be first_frame or last_frame."
            raise AppError("invalid_request", message, field=f"{field}.frame_type", allowed=allowed)
        _set(values, kind, url_of(frame, "image_url", field=field), field)


def _rename(values: Values) -> None:
    for other, native in RENAMED.items():
        value = values.pop(other, None)
        if value is not None:
            whole = parse_whole(value) if native == "seconds" else None
            _set(values, native, value if whole is None else whole, other)


def _read_user(values: Values) -> None:
    """Keep the end user that gateways name, and the caller's own id of the order, in the metadata."""
    for name in ("user", "safety_identifier", "external_id"):
        value = values.pop(name, None)
        metadata = values.get("metadata") or {}
        if value is not None and isinstance(metadata, dict):
            values["metadata"] = {name: value, **metadata}


def _read_model(values: Values) -> None:
    """Accept the hub id of a model's weights in place of its id."""
    catalog = load_catalog(get_settings().catalog_dir)
    name = values.get("model")
    # A model without weights has an empty name for them.
    if isinstance(name, str) and name and catalog.find(name) is None:
        same = [each.id for each in catalog.values() if each.enabled and each.weights == name]
        if same:
            values["model"] = same[0]


def _read_size(values: Values) -> None:
    sides = [values.get(name) for name in ("width", "height")]
    if sides == [None, None]:
        return
    width, height = map(parse_whole, sides)
    if width is None or height is None:
        raise AppError("invalid_request", "width and height are whole pixels, and come together.", field="width")
    del values["width"], values["height"]
    _set(values, "size", f"{width}x{height}", "width", is_same=_size_text)


def _size_text(size: Any) -> str:
    return str(size).replace("*", "x").lower()


def _read_length(values: Values) -> None:
    """Read `num_frames`, at `fps` or at the model's frame rate, as whole seconds; one frame more is allowed.

    Models of video have 4k + 1 frames (81 at 16 a second), of which the first one opens the film.
    """
    if values.get("num_frames") is None:
        values.pop("num_frames", None)
        return
    frames, fps = parse_whole(values["num_frames"]), parse_whole(values.get("fps"))
    model = load_catalog(get_settings().catalog_dir).find(str(values.get("model")))
    fps = fps or (model.fps if model else None)
    if frames is None or not fps or fps < 1:
        message = "num_frames needs fps, or the model's name: the film's length in seconds is what is ordered."
        raise AppError("invalid_request", message, field="num_frames" if frames is None else "fps")
    seconds = next((count // fps for count in (frames, frames - 1) if count >= fps and count % fps == 0), None)
    if seconds is None:
        lower = max(1, frames // fps)
        allowed = [lower * fps, (lower + 1) * fps]
        message = f"{frames} frames at {fps} a second are no whole seconds; the nearest are {allowed[0]}, {allowed[1]}."
        raise AppError("invalid_request", message, field="num_frames", allowed=allowed)
    del values["num_frames"]
    if model is None:
        values.pop("fps", None)
    _set(values, "seconds", seconds, "num_frames", is_same=parse_whole)


def _remove_same_rate(values: Values) -> None:
    """Remove `fps` where it is the model's frame rate: then nothing is set otherwise."""
    model = load_catalog(get_settings().catalog_dir).find(str(values.get("model")))
    if model and parse_whole(values.get("fps")) == model.fps:
        del values["fps"]


def _set(values: Values, native: str, value: Any, field: str, *, is_same: Callable[[Any], Any] = str) -> None:
    """Set a native field. Raises AppError `invalid_request` where it has another value already."""
    current = values.get(native)
    if current is not None and is_same(current) != is_same(value):
        raise AppError("invalid_request", f"{field} contradicts {native}.", field=field)
    values[native] = value


def model_info(models: list[VideoModel]) -> dict[str, Any]:
    """Return SGLang's model information for the first of these models: the name under which it can be ordered."""
    first = models[0]
    return {
        "model_path": first.weights if _HUB_ID.fullmatch(first.weights) else first.id,
        "id": first.id,
        "task_type": "T2V" if "t2v" in first.modes else "I2V",
        "is_generation": True,
        "models": [each.id for each in models],
    }
