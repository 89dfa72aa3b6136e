"""The words of events: which types there are, what each means, which of them end a job, and a sample of each."""

from typing import Any

# type: what has happened when it is sent
EVENT_TYPES: dict[str, str] = {
    "video.created": "A job was accepted; its price is held.",
    "video.started": "The first take of a job has begun.",
    "video.completed": "The film is stored, measured and paid for.",
    "video.failed": "The job failed; nothing was charged.",
    "video.cancelled": "The job was cancelled; only what had been made before was charged.",
    "video.expired": "The job was not started in time; nothing was charged.",
    "wallet.low": "The wallet has fallen below the account's warning level.",
    "endpoint.failing": "A webhook endpoint has only failed for a while and will be disabled if that goes on.",
    "endpoint.disabled": "A webhook endpoint was disabled: it answered 410, or failed for five days.",
    "webhook.test": "Somebody asked for a test of a webhook endpoint.",
}

# A job has exactly one of these; the database refuses a second.
TERMINAL_TYPES = ("video.completed", "video.failed", "video.cancelled", "video.expired")

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
    """Return what `data` of an event of this type may look like, for test sends; its ids name no real thing."""
    family, _, word = type_.partition(".")
    if family == "video":
        charged = {"charged": "2.19"} if word == "completed" else {}
        return _SAMPLE_VIDEO | {"status": _SAMPLE_STATUS.get(type_, word)} | charged
    if family == "wallet":
        return {"id": account_id, "object": "wallet", "available": "4.20", "currency": "CNY"}
    return {"id": "webhook_sample", "object": "webhook_endpoint", "message": EVENT_TYPES[type_]}
