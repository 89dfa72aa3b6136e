"""Event types: the meaning of each, those that end a job, and a sample of each."""

from typing import Any

# type: meaning
EVENT_TYPES: dict[str, str] = {
    "video.created": "A job was accepted; its price is held.",
    "video.started": "The first take of a job has started.",
    "video.completed": "The film is stored, measured and paid for.",
    "video.failed": "The job failed; nothing was charged.",
    "video.cancelled": "The job was cancelled; only segments finished before were charged.",
    "video.expired": "The job was not started in time; nothing was charged.",
    "video.removed": "An operator removed the film after a report; its files are deleted.",
    "group.ended": "All films that one call ordered together have ended.",
    "wallet.low": "The wallet has fallen below the account's warning level.",
    "project.alert": "A project's month has come to the amount that its owner set, with what is held; once in a month.",
    "model.retiring": "A model that the account has used lately will retire; `replaced_by` names another one.",
    "endpoint.failing": "A webhook endpoint keeps failing and will be disabled if that continues.",
    "endpoint.disabled": "A webhook endpoint was disabled: it answered 410, or failed for five days.",
    "webhook.test": "A test of a webhook endpoint was requested.",
}

# Of the films of one call together; their own callback URL gets this event and none of theirs.
GROUP_ENDED = "group.ended"

# A job has exactly one of these; the database refuses a second.
TERMINAL_TYPES = ("video.completed", "video.failed", "video.cancelled", "video.expired")

# What a callback URL may get: the end of its job or group, and the start of a prediction that asks for it.
CALLBACK_TYPES = ("video.started", *TERMINAL_TYPES, GROUP_ENDED)

_SAMPLE_VIDEO: dict[str, Any] = {
    "id": "video_sample",
    "object": "video",
    "model": "demo",
    "prompt": "a red circle moves left on a blue background",
    "size": "1280x720",
    "seconds": "5",
    "test": True,
}
_SAMPLE_STATUS = {"video.created": "queued", "video.started": "in_progress"}


def sample_data(type_: str, account_id: str) -> dict[str, Any]:
    """Return a sample of `data` of an event of this type, for test sends; its ids are fictitious."""
    family, _, state = type_.partition(".")
    if family == "video":
        charged = {"charged": "2.19"} if state == "completed" else {}
        return _SAMPLE_VIDEO | {"status": _SAMPLE_STATUS.get(type_, state)} | charged
    if family == "group":
        video = _SAMPLE_VIDEO | {"status": "completed", "group": "group_sample"}
        counts, videos = {"completed": 2}, [video | {"seed": seed} for seed in (7, 8)]
        return {
            "id": "group_sample",
            "object": "video.group",
            "status": "ended",
            "n": 2,
            "counts": counts,
            "total": "4.38",
            "charged": "4.38",
            "currency": "CNY",
            "test": True,
            "videos": videos,
        }
    if family == "wallet":
        return {"id": account_id, "object": "wallet", "available": "4.20", "currency": "CNY"}
    if family == "project":
        amounts = {"month": "2026-05", "used": "81.20", "alert": "80.00", "currency": "CNY"}
        return {"id": "proj_sample", "object": "project", "name": "Trailer", **amounts}
    if family == "model":
        ends = {"deprecated_at": 1_790_812_800, "retires_at": 1_798_761_600}
        return {"id": "demo", "object": "model", "name": "Cinemeter demo", **ends, "replaced_by": "demo-2"}
    return {"id": "webhook_sample", "object": "webhook_endpoint", "message": EVENT_TYPES[type_]}
