"""Translate calls of the AI Gateway's video protocol (version 4) to a VideoRequest, and jobs to its results."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.catalog.models import load_catalog
from app.errors import AppError
from app.jobs.field_types import FILMS_MAX
from app.jobs.groups import state_of
from app.jobs.present import show_job
from app.jobs.states import FINAL, JobState
from app.jobs.tables import Job, ReceiptRow
from app.settings import get_settings

# Model ids of the client are `creator/name`; here the creator may be left out.
CREATOR = "cinemeter"
# Native fields of the client's own names. `duration` and the rest come as JSON numbers and texts.
FIELDS = {
    "prompt": "prompt",
    "aspectRatio": "ratio",
    "resolution": "size",
    "duration": "seconds",
    "seed": "seed",
    "n": "n",
    "generateAudio": "generate_audio",
}
FRAMES = {"first_frame": "first_frame", "last_frame": "last_frame"}
OTHERS = ("fps", "image", "frameImages", "inputReferences", "providerOptions", "callbackUrl")

_FILE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "type": {"enum": ["url", "file"]},
        "url": {"type": "string"},
        "mediaType": {"type": "string"},
        "data": {"type": "string", "description": "The file as base64."},
    },
}
_FRAME = {"type": "object", "properties": {"frameType": {"enum": [*FRAMES]}, "image": _FILE}}
_PROPERTIES: dict[str, Any] = {
    "prompt": {"type": "string"},
    "n": {"type": "integer", "minimum": 1, "maximum": FILMS_MAX, "description": "Films with a seed each."},
    "aspectRatio": {"type": "string"},
    "resolution": {"type": "string", "description": "Width x height, such as 1280x720."},
    "duration": {"type": "integer"},
    "fps": {"type": "integer"},
    "seed": {"type": "integer"},
    "generateAudio": {"type": "boolean"},
    "image": _FILE,
    "frameImages": {"type": "array", "items": _FRAME},
    "providerOptions": {
        "type": "object",
        "description": "`cinemeter` holds further fields of the native interface; what is for others is ignored.",
        "properties": {CREATOR: {"type": "object"}},
    },
    "callbackUrl": {"type": "string"},
}

_EXAMPLE = {
    "prompt": "a red circle moves left on a blue background",
    "n": 1,
    "aspectRatio": "16:9",
    "duration": 5,
    "seed": 7,
    "providerOptions": {},
}


def call_schema(title: str) -> dict[str, Any]:
    """Return the request body of a call, for the OpenAPI document."""
    schema = {"title": title, "type": "object", "properties": _PROPERTIES}
    content = {"schema": schema, "example": _EXAMPLE}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


@dataclass
class VideoCall:
    """A call in native terms: the fields of the order, the caller's name for each of them, and warnings."""

    values: dict[str, Any]
    names: dict[str, str]
    warnings: list[dict[str, str]] = field(default_factory=list)

    def set(self, name: str, value: Any, caller_name: str) -> None:
        """Set a native field. Raises AppError `invalid_request` for one that has a value already."""
        if value is None:
            return
        if name in self.values:
            raise AppError("invalid_request", f"{caller_name} sets {name} a second time.", field=caller_name)
        self.values[name], self.names[name] = value, caller_name


def to_native(model_id: str, body: dict[str, Any]) -> VideoCall:
    """Translate a call to an order. Raises AppError `invalid_request`, naming the caller's field."""
    model = model_id.removeprefix(f"{CREATOR}/")
    call = VideoCall({"model": model}, {"model": "ai-model-id"})
    for name, value in body.items():
        if name in FIELDS:
            call.set(FIELDS[name], value, name)
        elif name not in OTHERS:
            raise AppError("invalid_request", f"{name} is not supported.", field=name, allowed=[*FIELDS, *OTHERS])
    if body.get("inputReferences"):
        message = "inputReferences is not supported: no model here takes references."
        raise AppError("invalid_request", message, field="inputReferences")
    _read_frames(call, body.get("frameImages"))
    image = _file(body.get("image"), "image")
    # The client sends its first frame under both names.
    if image != call.values.get("first_frame"):
        call.set("first_frame", image, "image")
    call.set("callback_url", body.get("callbackUrl"), "callbackUrl")
    _read_options(call, body.get("providerOptions"))
    _read_fps(call, model, body.get("fps"))
    return call


def _read_frames(call: VideoCall, frames: Any) -> None:
    if frames is None:
        return
    if not isinstance(frames, list):
        raise AppError("invalid_request", "frameImages must be a list.", field="frameImages")
    for number, frame in enumerate(frames):
        name = f"frameImages.{number}"
        kind = frame.get("frameType") if isinstance(frame, dict) else None
        if not isinstance(kind, str) or kind not in FRAMES:
            message = f"{name}.frameType is not supported."
            raise AppError("invalid_request", message, field=f"{name}.frameType", allowed=[*FRAMES])
        call.set(FRAMES[kind], _file(frame.get("image"), f"{name}.image"), f"{name}.image")


def _read_options(call: VideoCall, options: Any) -> None:
    """Read further native fields; options for other providers are none of ours."""
    if options is None:
        return
    own = options.get(CREATOR, {}) if isinstance(options, dict) else None
    if not isinstance(own, dict):
        raise AppError("invalid_request", "providerOptions must hold objects.", field="providerOptions")
    for name, value in own.items():
        if name == "model":
            raise AppError("invalid_request", "The model is named by the client's model id.", field=CREATOR)
        call.set(name, value, f"providerOptions.{CREATOR}.{name}")


def _read_fps(call: VideoCall, model_id: str, fps: Any) -> None:
    """Warn of frames per second that are not the model's own, which decides them."""
    model = load_catalog(get_settings().catalog_dir).find(model_id)
    if fps is not None and (model is None or fps != model.fps):
        details = "The model decides its frames per second." if model is None else f"The model makes {model.fps}."
        call.warnings.append({"type": "unsupported", "feature": "fps", "details": details})


def _file(value: Any, name: str) -> str | None:
    """Return a file as an address: its URL, or a data URL of its base64."""
    if value is None:
        return None
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "url" and isinstance(value.get("url"), str):
        return str(value["url"])
    if kind == "file" and isinstance(value.get("data"), str):
        media_type = value.get("mediaType")
        return (
            f"data:{media_type if isinstance(media_type, str) else 'image/png'};base64,{_base64(value['data'], name)}"
        )
    message = f"{name} must be a url with `url`, or a file with `data` as base64."
    raise AppError("invalid_request", message, field=name, allowed=["url", "file"])


def _base64(text: str, name: str) -> str:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise AppError("invalid_request", f"{name}.data is not base64.", field=f"{name}.data") from error
    return text


def to_metadata(jobs: Sequence[Job], receipts: Mapping[str, ReceiptRow]) -> dict[str, Any]:
    """Return what the client passes on as `providerMetadata`: the job's id, its price and what was charged.

    Of several jobs these are the first one's, with those of all in `videos`.
    """
    facts = [_facts(job, receipts.get(job.id)) for job in jobs]
    several = {"group": jobs[0].group_id, "videos": facts} if len(jobs) > 1 else {}
    return {CREATOR: {**facts[0], **several}}


def _facts(job: Job, receipt: ReceiptRow | None) -> dict[str, Any]:
    video = show_job(job, receipt=receipt)
    facts = {
        "id": video.id,
        "model": video.model,
        "status": video.status,
        "price": video.price.total,
        "currency": video.price.currency,
        "quote_id": job.quote_id,
        "charged": video.charged,
        "seconds": video.seconds,
        "size": video.size,
        "seed": video.seed,
    }
    return {name: value for name, value in facts.items() if value is not None}


def failure_of(jobs: Sequence[Job]) -> str:
    """Return the sentence that says why ended jobs have no film: of several, that of the first in their state."""
    state = state_of(jobs)
    job = next(job for job in jobs if job.state == state)
    error = show_job(job).error
    return error.message if error is not None else f"The video ended as {job.state}."


def to_status(jobs: Sequence[Job], receipts: Mapping[str, ReceiptRow]) -> dict[str, Any]:
    """Return the state of jobs as the gateway's operation status, without their films.

    Several are one operation, completed when all have ended and one has a film. A job that was cancelled after some
    shots has a film of them, which is delivered.
    """
    metadata = {"providerMetadata": to_metadata(jobs, receipts)}
    state = state_of(jobs)
    if state not in FINAL:
        return {"status": "pending", **metadata}
    if any(job.film_key is not None for job in jobs):
        return {"status": "completed", **metadata}
    if state == JobState.CANCELLED:
        return {"status": "cancelled", **metadata}
    return {"status": "error", "error": failure_of(jobs), **metadata}
