"""Translate DashScope's video tasks to a VideoRequest and back.

Its clients send switches that ask for more than there is here. Those that leave the film what it is otherwise are
ignored with a warning, unless the caller prefers strict handling; what would change its content is refused by name.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from app.api.dashscope.uploads import STORED, stored_asset
from app.api.handling import NEVER_IGNORED, ignored
from app.api.inline_files import as_data_url
from app.errors import AppError
from app.jobs.field_types import SECONDS_MAX
from app.jobs.order_warnings import OrderWarning, order_warnings
from app.jobs.present import error_of
from app.jobs.resolve import DEFAULT_SECONDS
from app.jobs.schemas import decimal_seconds
from app.jobs.spec import Spec
from app.jobs.states import JobState
from app.jobs.tables import Job

# DashScope writes times in China time, without an offset.
CHINA = timezone(timedelta(hours=8))

STATUS = {
    JobState.QUEUED: "PENDING",
    JobState.IN_PROGRESS: "RUNNING",
    JobState.COMPLETED: "SUCCEEDED",
    JobState.FAILED: "FAILED",
    JobState.CANCELLED: "CANCELED",
    JobState.EXPIRED: "FAILED",
}
# DashScope's codes of tasks that ended without a film; every other failure is InternalError.Algo.
ERROR_CODES = {"cancelled": "JobCanceled", "expired": "JobExpired", "content_refused": "DataInspectionFailed"}
STATES_OF_STATUS = {
    "PENDING": ("queued",),
    "RUNNING": ("in_progress",),
    "SUCCEEDED": ("completed",),
    "FAILED": ("failed", "expired"),
    "CANCELED": ("cancelled",),
    "SUSPENDED": (),
    "UNKNOWN": (),
}

INPUT = {
    "prompt": "prompt",
    "negative_prompt": "negative_prompt",
    "img_url": "first_frame",
    "first_frame_url": "first_frame",
    "head_frame": "first_frame",
    "last_frame_url": "last_frame",
    "tail_frame": "last_frame",
    "audio_url": "audio",
    "video_url": "video",
}
MEDIA = {"first_frame": "first_frame", "last_frame": "last_frame", "video": "video", "driving_audio": "audio"}
PARAMETERS = {"resolution": "resolution", "ratio": "ratio", "duration": "seconds", "size": "size"}
PARAMETERS |= {"seed": "seed", "n": "n"}
# Whether the model makes the sound. True is no demand, as clients send it with every model: a silent one stays silent.
SOUND_SWITCHES = {"audio": "generate_audio", "generate_audio": "generate_audio"}
PARAMETERS |= SOUND_SWITCHES
# What is declared of the film and of its files must never be ignored.
DECLARATIONS = {"deepfake": "deepfake", "declaration": "declaration"}
PARAMETERS |= DECLARATIONS
# The 1.x client sends these with every call; they have no effect.
SDK_CONSTANTS = {"function": ("video-synthesis",), "extend_prompt": (True, False)}
# Switches that are supported only when they are off, and what happens instead.
OFF_ONLY = {
    "prompt_extend": "The prompt is used as it is written.",
    "watermark": "No watermark of this kind is drawn.",
    "enable_thinking": "The prompt is used as it is written.",
}
# What the media of Wan 2.7 and 3.0 that cannot be honoured here would ask for.
REFUSED_MEDIA = {
    "reference_image": "no model here takes references",
    "reference_video": "no model here takes references",
    "reference_audio": "no model here takes references",
    "reference_voice": "no model here takes references",
    "first_clip": "a clip is continued by POST /v1/videos/extensions",
    "file": "no model here reads documents",
    "link": "no model here reads documents",
}
# The source decides the length of an edit; elsewhere it is the default.
SMART_DURATION = -1

_MEDIUM = {"type": {"enum": [*MEDIA]}, "url": {"type": "string"}}
_TEXTS = {name: {"type": "string"} for name in INPUT}
_MEDIA_LIST = {"type": "array", "items": {"type": "object", "properties": _MEDIUM, "required": [*_MEDIUM]}}
_INTEGERS = ("duration", "seed", "n")
_SETTINGS = {name: {"type": "integer" if name in _INTEGERS else "string"} for name in PARAMETERS}
_SWITCHES: dict[str, Any] = {name: {"type": "boolean"} for name in (*OFF_ONLY, *SOUND_SWITCHES, "deepfake")}
_SWITCHES["declaration"] = {"type": "object", "description": "As at POST /v1/assets."}
# The body of a task, for the OpenAPI document.
TASK_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "title": "VideoTask",
                    "type": "object",
                    "required": ["model", "input"],
                    "properties": {
                        "model": {"type": "string"},
                        "input": {"type": "object", "properties": {**_TEXTS, "media": _MEDIA_LIST}},
                        "parameters": {"type": "object", "properties": {**_SETTINGS, **_SWITCHES}},
                    },
                }
            }
        },
    }
}


@dataclass(frozen=True)
class TaskRequest:
    """A task in native terms: the fields of the order, the caller's name for each of them, and warnings."""

    values: dict[str, Any]
    names: dict[str, str]
    is_strict: bool = False
    warnings: list[OrderWarning] = field(default_factory=list)

    def warn(self, code: str, message: str, name: str, refusal: AppError) -> None:
        """Add a warning about a field. Raises the refusal where the caller prefers strict handling."""
        if self.is_strict:
            raise refusal
        self.warnings.append(OrderWarning(code, message, name))


def to_native(values: dict[str, Any], *, is_strict: bool = False) -> TaskRequest:
    """Translate a DashScope body to an order. Raises AppError `invalid_request`, naming the parameter."""
    task = TaskRequest({"model": values.get("model", "")}, {}, is_strict)
    known = ("model", "input", "parameters")
    for name in (each for each in values if each not in known):
        _read_other_field(task, name, list(known))
    inputs = _table(values, "input")
    parameters = _table(values, "parameters")
    for name, value in inputs.items():
        if name in SDK_CONSTANTS and value in SDK_CONSTANTS[name]:
            continue
        if name == "media":
            _read_media(task, value)
        elif name in INPUT:
            _set(task, INPUT[name], value, f"input.{name}")
        else:
            raise _unsupported(f"input.{name}", [*INPUT, "media"])
    for name, value in parameters.items():
        if name in PARAMETERS:
            _set(task, PARAMETERS[name], value, f"parameters.{name}")
        else:
            _read_other_parameter(task, name, value)
    _complete(task)
    return task


def _read_other_field(task: TaskRequest, name: str, known: list[str]) -> None:
    """Read a field outside `input` and `parameters`. One that belongs there would change the film, and is refused."""
    place = "parameters" if name in PARAMETERS else "input" if name in INPUT or name == "media" else None
    refusal = _unsupported(name, known, place and f"it belongs in {place}")
    if place or name in NEVER_IGNORED:
        raise refusal
    task.warn(*_ignored(name), refusal)


def _read_other_parameter(task: TaskRequest, name: str, value: Any) -> None:
    """Read a parameter without a native field."""
    full_name, refusal = f"parameters.{name}", _unsupported(f"parameters.{name}", [*PARAMETERS])
    if name in OFF_ONLY:
        if value not in (False, None):
            task.warn("ignored", f"{full_name} was ignored. {OFF_ONLY[name]}", full_name, refusal)
    elif name == "shot_type":
        if value not in ("single", None):
            message = f"{full_name} was ignored: the film has one shot; a storyboard is ordered by POST /v1/videos."
            task.warn("ignored", message, full_name, refusal)
    elif name == "audio_setting":
        if value not in ("auto", None):
            raise refusal
    elif name in NEVER_IGNORED:
        raise refusal
    else:
        task.warn(*_ignored(full_name), refusal)


def _complete(task: TaskRequest) -> None:
    """Read the values that DashScope writes otherwise: its sizes, pictures as bare base64, and the length -1."""
    if isinstance(task.values.get("size"), str):
        task.values["size"] = task.values["size"].replace("*", "x")
    for name in ("first_frame", "last_frame"):
        if isinstance(task.values.get(name), str):
            task.values[name] = as_data_url(task.values[name])
    if task.values.get("seconds") == SMART_DURATION:
        del task.values["seconds"]
        full_name = task.names.pop("seconds")
        if "video" not in task.values:
            message = f"{full_name} -1 was read as {DEFAULT_SECONDS} seconds, the default."
            task.warn("default_used", message, full_name, _unsupported(full_name, [1, SECONDS_MAX]))


def _ignored(name: str) -> tuple[str, str, str]:
    warning = ignored(name)
    return warning.code, warning.message, warning.field


def _table(values: dict[str, Any], name: str) -> dict[str, Any]:
    table = values.get(name) or {}
    if not isinstance(table, dict):
        raise AppError("invalid_request", f"{name} must be an object.", field=name)
    return table


def _read_media(task: TaskRequest, media: Any) -> None:
    if not isinstance(media, list):
        raise AppError("invalid_request", "input.media must be a list.", field="input.media")
    for number, item in enumerate(media):
        field = f"input.media.{number}"
        kind = item.get("type") if isinstance(item, dict) else None
        if not isinstance(kind, str) or kind not in MEDIA:
            reason = REFUSED_MEDIA.get(kind) if isinstance(kind, str) else None
            raise _unsupported(f"{field}.type", [*MEDIA], reason and f"{kind}: {reason}")
        _refuse_unknown(item, ("type", "url"), f"{field}.")
        _set(task, MEDIA[kind], item.get("url"), f"{field}.url")


def _set(task: TaskRequest, name: str, value: Any, field: str) -> None:
    if value is None:
        return
    if name in task.values:
        raise AppError("invalid_request", f"{field} sets {name} a second time.", field=field)
    if isinstance(value, str) and value.startswith(STORED):
        value = stored_asset(value)
    task.values[name], task.names[name] = value, field


def _refuse_unknown(table: dict[str, Any], allowed: tuple[str, ...], prefix: str) -> None:
    for name in table:
        if name not in allowed:
            raise _unsupported(f"{prefix}{name}", list(allowed))


def _unsupported(field: str, allowed: list[Any], reason: str | None = None) -> AppError:
    message = f"{field} is not supported{f' ({reason})' if reason else ''}."
    return AppError("invalid_request", message, field=field, allowed=allowed)


def task_time(at: datetime | None) -> str | None:
    """Format a time as DashScope does: China time to the millisecond, without an offset."""
    return None if at is None else at.astimezone(CHINA).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def to_output(job: Job, video_url: str | None) -> dict[str, Any]:
    """Return a job as a task's `output`."""
    output: dict[str, Any] = {
        "task_id": job.id,
        "task_status": STATUS[JobState(job.state)],
        "submit_time": task_time(job.created_at),
        "scheduled_time": task_time(job.started_at),
        "end_time": task_time(job.finished_at),
        "orig_prompt": job.prompt,
    }
    if video_url is not None:
        output["video_url"] = video_url
    warnings = [each.as_dict() for each in order_warnings(job.resolved)]
    if warnings:
        output["warnings"] = warnings
    error = error_of(job)
    if error is not None:
        output["code"] = ERROR_CODES.get(error.code, "InternalError.Algo")
        output["message"] = error.message
    return {key: value for key, value in output.items() if value is not None}


def to_usage(job: Job) -> dict[str, Any] | None:
    """Return a task's usage, in the fields of older and newer models; None while there is no film."""
    if job.film is None:
        return None
    spec = Spec.model_validate(job.spec)
    output_seconds = Decimal(decimal_seconds(int(job.film["frames"]), spec.fps))
    numerator, _, denominator = spec.video_seconds.partition("/")
    input_seconds = (Decimal(numerator) / Decimal(denominator or 1)).quantize(Decimal("0.001"))
    return {
        "video_count": 1,
        "video_duration": _number(output_seconds),
        "video_ratio": spec.ratio,
        "duration": _number(output_seconds + input_seconds),
        "input_video_duration": _number(input_seconds),
        "output_video_duration": _number(output_seconds),
        "SR": int(spec.resolution.removesuffix("P")),
        "ratio": spec.ratio,
        "size": f"{spec.width}*{spec.height}",
        "fps": spec.fps,
    }


def _number(seconds: Decimal) -> int | float:
    """Return seconds as a JSON number, an integer if possible. For display; prices never use it."""
    return int(seconds) if seconds == seconds.to_integral_value() else float(seconds)
