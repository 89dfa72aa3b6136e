"""Translate Replicate's predictions to a VideoRequest and back. Inputs that cannot be honoured are refused by name."""

import re
from dataclasses import dataclass, field
from typing import Any

from app.assets.tables import Asset
from app.catalog.models import VideoModel, load_catalog
from app.errors import AppError
from app.events.types import TERMINAL_TYPES
from app.jobs.field_types import FILMS_MAX, PROMPT_MAX
from app.jobs.prediction import OWNER, PREFIX, time_text
from app.jobs.schemas import VideoRequest
from app.settings import get_settings

# Inputs of video models at Replicate, and the native fields. Native names are understood as well.
INPUTS = {
    "image": "first_frame",
    "start_image": "first_frame",
    "first_frame_image": "first_frame",
    "last_image": "last_frame",
    "end_image": "last_frame",
    "last_frame_image": "last_frame",
    "aspect_ratio": "ratio",
    "duration": "seconds",
    "num_outputs": "n",
}
# Fields of the order that are not inputs of its model, or that another part of the call sets.
NOT_INPUTS = {"model", "callback_url", "expires_after"}
NATIVE = {name: name for name in VideoRequest.model_fields if name not in NOT_INPUTS}
# Fields that name a file.
FILE_FIELDS = ("first_frame", "last_frame", "video", "audio")
# What the model decides by itself here. The first names also say how many frames a second has.
FPS = ("fps", "frames_per_second")
MODEL_DECIDES = ("num_inference_steps", "guidance_scale", "prompt_optimizer", "sample_shift", "go_fast")
# Replicate's events, and ours at which the webhook is called. The log has its price line from the start on.
EVENTS: dict[str, tuple[str, ...]] = {
    "start": ("video.started",),
    "output": ("video.completed",),
    "logs": ("video.started", *TERMINAL_TYPES),
    "completed": TERMINAL_TYPES,
}
_DURATION = re.compile(r"(?:(\d{1,3})h)?(?:(\d{1,4})m)?(?:(\d{1,6})s)?")
_ASSET = re.compile(r"asset_[a-z0-9]+")

PREDICTION_PROPERTIES: dict[str, Any] = {
    "input": {"type": "object", "description": "The inputs that the model's schema names."},
    "webhook": {"type": "string"},
    "webhook_events_filter": {"type": "array", "items": {"enum": [*EVENTS]}},
    "version": {"type": "string", "description": "The model: `demo`, or `cinemeter/demo`."},
}
PREDICTION_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "title": "PredictionRequest",
                    "type": "object",
                    "required": ["input"],
                    "properties": PREDICTION_PROPERTIES,
                }
            }
        },
    }
}


@dataclass
class PredictionRequest:
    """A prediction in native terms: the fields of the order, the caller's name for each, and ignored inputs.

    `callback_events` are the types of events for which its webhook is called, `cancel_after` is in seconds.
    """

    values: dict[str, Any]
    names: dict[str, str]
    ignored: list[str] = field(default_factory=list)
    callback_events: tuple[str, ...] | None = None
    cancel_after: int | None = None


def model_of(version: Any) -> str:
    """Return the model's id of a version: the id itself, `owner/name`, or `owner/name:version`."""
    if not isinstance(version, str) or not version:
        raise AppError("invalid_request", "version must name a model, such as cinemeter/demo.", field="version")
    owner, _, name = version.rpartition("/")
    if owner not in ("", OWNER):
        raise unknown_model(version)
    return name.partition(":")[0]


def unknown_model(name: str) -> AppError:
    """Return the error for a model that is not here."""
    message = f"There is no model {name!r}; the models are {OWNER}/ and an id of GET {PREFIX}/models."
    return AppError("unknown_model", message, field="model")


def to_native(model_id: str, body: dict[str, Any], cancel_after: str | None) -> PredictionRequest:
    """Translate a prediction to an order. Raises AppError `invalid_request`, naming the caller's field."""
    inputs = body.get("input")
    if not isinstance(inputs, dict):
        raise AppError("invalid_request", "input must be an object.", field="input")
    prediction = PredictionRequest({"model": model_id}, {"model": "model"})
    model = load_catalog(get_settings().catalog_dir).find(model_id)
    for name, value in inputs.items():
        native = INPUTS.get(name) or NATIVE.get(name)
        if name in MODEL_DECIDES or (name in FPS and (model is None or value != model.fps)):
            prediction.ignored.append(name)
        elif native is not None:
            _set(prediction, native, value, f"input.{name}")
        elif name not in FPS:
            allowed = [*NATIVE, *INPUTS]
            raise AppError("invalid_request", f"input.{name} is not supported.", field=f"input.{name}", allowed=allowed)
    if isinstance(prediction.values.get("resolution"), str):
        prediction.values["resolution"] = prediction.values["resolution"].upper()
    _set(prediction, "callback_url", body.get("webhook"), "webhook")
    events = _webhook_events(body)
    if prediction.values.get("callback_url") is not None:
        prediction.callback_events = events
    if cancel_after is not None:
        prediction.cancel_after = _read_duration(cancel_after)
    return prediction


def _set(prediction: PredictionRequest, name: str, value: Any, caller_name: str) -> None:
    if value is None:
        return
    if name in prediction.values:
        raise AppError("invalid_request", f"{caller_name} sets {name} a second time.", field=caller_name)
    prediction.values[name], prediction.names[name] = _with_assets(name, value), caller_name


def _with_assets(name: str, value: Any) -> Any:
    """Return an input with the asset in place of the URL of one of our files, in the fields that name a file."""
    if name == "shots" and isinstance(value, list):
        return [
            {field: _with_assets(field, each) for field, each in shot.items()} if isinstance(shot, dict) else shot
            for shot in value
        ]
    if name in FILE_FIELDS and isinstance(value, str):
        asset = value.removeprefix(f"{get_settings().base_url()}{PREFIX}/files/")
        return asset if _ASSET.fullmatch(asset) else value
    return value


def _webhook_events(body: dict[str, Any]) -> tuple[str, ...]:
    """Return the types of our events for which the webhook is called: for all without a filter.

    Raises AppError `invalid_request` for a filter that is no list of Replicate's events.
    """
    events = body.get("webhook_events_filter")
    if events is None:
        events = [*EVENTS]
    if not isinstance(events, list) or not set(map(str, events)) <= set(EVENTS):
        message = "webhook_events_filter must be a list of events."
        raise AppError("invalid_request", message, field="webhook_events_filter", allowed=[*EVENTS])
    return tuple(sorted({type_ for event in events for type_ in EVENTS[str(event)]}))


def _read_duration(text: str) -> int:
    """Return the seconds of a duration such as 30s, 5m or 1h30m."""
    match = _DURATION.fullmatch(text.strip())
    if match is None or not any(match.groups()):
        message = "Cancel-After must be a duration such as 30s, 5m or 1h30m."
        raise AppError("invalid_request", message, field="Cancel-After", allowed="30s")
    hours, minutes, seconds = (int(each or 0) for each in match.groups())
    total = hours * 3600 + minutes * 60 + seconds
    if not total:
        message = "Cancel-After must be at least a second."
        raise AppError("invalid_request", message, field="Cancel-After", allowed="1s")
    return total


def to_model(model: VideoModel) -> dict[str, Any]:
    """Return a model as Replicate's clients read it, with the schema of its inputs."""
    return {
        "url": f"{get_settings().base_url()}{PREFIX}/models/{OWNER}/{model.id}",
        "owner": OWNER,
        "name": model.id,
        "description": f"{model.name}. {model.note}".strip(),
        "visibility": "public",
        "github_url": None,
        "paper_url": None,
        "license_url": None,
        "run_count": 0,
        "cover_image_url": None,
        "default_example": None,
        "latest_version": to_version(model),
    }


def to_version(model: VideoModel) -> dict[str, Any]:
    """Return the one version of a model, whose id is the model's."""
    schemas = {"Input": _input_schema(model), "Output": {"type": "string", "format": "uri", "title": "Output"}}
    return {
        "id": model.id,
        "created_at": "1970-01-01T00:00:00Z",
        "cog_version": "",
        "openapi_schema": {
            "openapi": "3.0.2",
            "info": {"title": model.name, "version": "1"},
            "paths": {},
            "components": {"schemas": schemas},
        },
    }


def _input_schema(model: VideoModel) -> dict[str, Any]:
    ratios = dict.fromkeys(ratio for sizes in model.native.values() for ratio in sizes)
    properties: dict[str, Any] = {
        "prompt": {"type": "string", "maxLength": PROMPT_MAX},
        "negative_prompt": {"type": "string", "maxLength": PROMPT_MAX},
        "duration": {"type": "integer", "minimum": 1, "maximum": model.film_seconds_max, "default": 5},
        "resolution": {"type": "string", "enum": [*model.native]},
        "aspect_ratio": {"type": "string", "enum": [*ratios]},
        "seed": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
        "num_outputs": {
            "type": "integer",
            "minimum": 1,
            "maximum": FILMS_MAX,
            "default": 1,
            "description": "Films of one order. With more than one, the output is a list of their URLs.",
        },
    }
    if "i2v" in model.modes:
        properties["image"] = {"type": "string", "format": "uri", "description": "The first frame."}
    if model.last_frame != "no":
        properties["last_frame_image"] = {"type": "string", "format": "uri", "description": "The last frame."}
    if model.sound:
        properties["generate_audio"] = {"type": "boolean"}
    ordered = {name: {**schema, "x-order": number} for number, (name, schema) in enumerate(properties.items())}
    return {"type": "object", "title": "Input", "required": ["prompt"], "properties": ordered}


def to_file(asset: Asset) -> dict[str, Any]:
    """Return an asset as one of Replicate's files."""
    return {
        "id": asset.id,
        "name": asset.filename,
        "content_type": asset.content_type or "application/octet-stream",
        "size": asset.bytes or 0,
        "etag": asset.sha256 or "",
        "checksums": {} if asset.sha256 is None else {"sha256": asset.sha256},
        "metadata": {},
        "created_at": time_text(asset.created_at),
        "expires_at": time_text(asset.expires_at),
        "urls": {"get": f"{get_settings().base_url()}{PREFIX}/files/{asset.id}"},
    }
