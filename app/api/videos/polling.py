"""What the answer to a poll says in its headers: when to ask again, and whether anything has changed."""

import hashlib

from app.jobs.schemas import VideoOut
from app.jobs.states import is_final

# How soon a client should ask again for a film that waits for others, at least and at most; for one that renders or is
# next; and for one that no worker serves. In seconds.
WAITING_SECONDS = (2, 60)
RENDERING_SECONDS = (1, 5)
UNKNOWN_SECONDS = 30


def poll_seconds(state: str, eta: dict[str, int] | None) -> int | None:
    """Return after how many seconds a client should ask again by a job's forecast; None where nothing will change."""
    if is_final(state):
        return None
    if eta is None:
        return UNKNOWN_SECONDS
    if eta["start_seconds"]:
        return _between(WAITING_SECONDS, eta["start_seconds"] // 4)
    return _between(RENDERING_SECONDS, eta["seconds_p50"] // 10)


def _between(limits: tuple[int, int], seconds: int) -> int:
    return max(limits[0], min(seconds, limits[1]))


def poll_headers(video: VideoOut) -> dict[str, str]:
    """Return the headers that say when to ask again for a video; none where nothing will change."""
    seconds = poll_seconds(video.status, video.eta)
    return {} if seconds is None else {"openai-poll-after-ms": str(seconds * 1000), "retry-after": str(seconds)}


def video_etag(video: VideoOut) -> str:
    """Return the weak ETag of a video: it changes with everything but the countdown of its `eta`."""
    content = video.model_dump_json(exclude={"eta"})
    return f'W/"{hashlib.blake2b(content.encode(), digest_size=12).hexdigest()}"'
