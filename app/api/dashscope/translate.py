"""Translate DashScope's video tasks to a VideoRequest and back. Unsupported parameters are refused by name."""

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from app.api.dashscope.uploads import STORED, stored_asset
from app.errors import AppError
from app.jobs.present import error_of
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
ERROR_CODES = {"cancelled": "JobCanceled", "expired": "JobExpired"}
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
PARAMETERS = {"resolution": "resolution", "ratio": "ratio", "duration": "seconds", "seed": "seed", "size": "size"}
# Whether the model makes the sound. True is no demand, as clients send it with every model: a silent one stays silent.
SOUND_SWITCHES = {"audio": "generate_audio", "generate_audio": "generate_audio"}
PARAMETERS |= SOUND_SWITCHES
# The 1.x client sends these with every call; they have no effect.
SDK_CONSTANTS = {"function": ("video-synthesis",), "extend_prompt": (True, False)}
# Switches that are supported only when they are off.
OFF_ONLY = ("prompt_extend", "watermark", "enable_thinking")

_MEDIUM = {"type": {"enum": [*MEDIA]}, "url": {"type": "string"}}
_TEXTS = {name: {"type": "string"} for name in INPUT}
_MEDIA_LIST = {"type": "array", "items": {"type": "object", "properties": _MEDIUM, "required": [*_MEDIUM]}}
_INTEGERS = ("duration", "seed")
_SETTINGS = {name: {"type": "integer" if name in _INTEGERS else "string"} for name in PARAMETERS}
_SWITCHES: dict[str, dict[str, Any]] = {name: {"const": False} for name in OFF_ONLY}
_SWITCHES |= {name: {"type": "boolean"} for name in SOUND_SWITCHES}
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
                    "additionalProperties": False,
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
    """A task in native terms: the fields of the order, and the caller's name for each of them."""

    values: dict[str, Any]
    names: dict[str, str]


def to_native(values: dict[str, Any]) -> TaskRequest:
    """Translate a DashScope body to an order. Raises AppError `invalid_request`, naming the parameter."""
    _refuse_unknown(values, ("model", "input", "parameters"), "")
    inputs = _table(values, "input")
    parameters = _table(values, "parameters")
    task = TaskRequest({"model": values.get("model", "")}, {})
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
        if name in OFF_ONLY and value in (False, None):
            continue
        if name == "shot_type" and value in ("single", None):
            continue
        if name not in PARAMETERS:
            raise _unsupported(f"parameters.{name}", [*PARAMETERS])
        _set(task, PARAMETERS[name], value, f"parameters.{name}")
    if isinstance(task.values.get("size"), str):
        task.values["size"] = task.values["size"].replace("*", "x")
    return task


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
            raise _unsupported(f"{field}.type", [*MEDIA])
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


def _unsupported(field: str, allowed: list[str]) -> AppError:
    return AppError("invalid_request", f"{field} is not supported.", field=field, allowed=allowed)


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
