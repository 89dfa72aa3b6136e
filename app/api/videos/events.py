"""Server-sent events of one video: past events, live progress, previews, and the terminal event."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy import select

from app.api.access import VideosCaller
from app.db import autocommit
from app.dispatch.poll import StoredEvent, read_progress
from app.event_stream import EventStream
from app.events.tables import Event
from app.events.types import TERMINAL_TYPES
from app.jobs.find import find_job
from app.jobs.live_feed import STREAM_SECONDS_MAX, JobUpdate, LiveFeed
from app.request_limits import RequestLimits, WorkKind, request_limits
from app.request_session import SessionDep, read_in_turn

router = APIRouter(prefix="/v1/videos", tags=["videos"])

# Comments at this interval keep proxies from closing a quiet stream, and show us that the client has disconnected.
HEARTBEAT_SECONDS = 15.0
RETRY_MS = 2000
_DOCUMENTED: dict[int | str, dict[str, Any]] = {
    200: {"description": "A stream that ends after the video's last event", "content": {"text/event-stream": {}}},
    204: {"description": "The client has received the video's last event; it should not reconnect"},
}


@router.get("/{video_id}/events", response_class=StreamingResponse, responses=_DOCUMENTED)
@request_limits(RequestLimits(work=WorkKind.STREAM))
def stream_video_events(
    http: Request,
    session: SessionDep,
    caller: VideosCaller,
    video_id: str,
    last_event_id: Annotated[int, Header(ge=0)] = 0,
) -> Response:
    """Follow a video as server-sent events until it has ended.

    `video.created`, `video.started` and the terminal event have the same bodies as webhooks, and their `sequence` as
    id, so a client that reconnects with `Last-Event-ID` misses none of them. Between them come `video.progress` and
    `video.preview` (a small JPEG as a data URL), which are not repeated.
    """
    job = find_job(session, caller, video_id)
    ended = session.scalar(select(Event.sequence).where(Event.job_id == job.id, Event.type.in_(TERMINAL_TYPES)))
    if ended is not None and last_event_id >= ended:
        return Response(status_code=204)
    # The database session ends with this function, before the first byte is streamed.
    feed: LiveFeed = http.app.state.live_feed
    return EventStream(job.account_id, stream_events(feed, job.id, account_id=job.account_id, after=last_event_id))


async def stream_events(
    feed: LiveFeed, job_id: str, *, account_id: str, after: int = 0, heartbeat_seconds: float = HEARTBEAT_SECONDS
) -> AsyncIterator[bytes]:
    """Yield a job's server-sent events: the stored ones after sequence `after`, then live ones, up to the terminal.

    `account_id` is the account that follows it, `heartbeat_seconds` the longest time without a byte.
    """
    yield f"retry: {RETRY_MS}\n\n".encode()
    clock = asyncio.get_running_loop().time
    deadline = clock() + STREAM_SECONDS_MAX
    seen, progress, sent_at = after, _ProgressFrames(job_id), clock()
    # Subscribe before reading the rows, so that no event is missed in between.
    async with feed.job(job_id) as viewer:
        update: JobUpdate | None = JobUpdate(news=True)
        while clock() < deadline and not feed.is_closing:
            # An update without news sends nothing, so the heartbeat interval counts from the last bytes sent.
            is_quiet = update is None or clock() - sent_at >= heartbeat_seconds
            if update is not None and (frames := progress.of_update(update)):
                yield frames
                sent_at = clock()
            elif is_quiet:
                yield b": alive\n\n"
                sent_at = clock()
            # A quiet stream reads the rows as well: the queue position may have changed, or an update may be lost.
            if update is None or is_quiet or update.news or (update.sequence or 0) > seen:
                events, facts = await read_in_turn(account_id, read, job_id, seen)
                for event in events:
                    yield frame(event.type, event.body, sequence=event.sequence)
                    seen = event.sequence or seen
                    if event.type in TERMINAL_TYPES:
                        return
                if frames := progress.of_facts(facts):
                    yield frames
                if events or frames:
                    sent_at = clock()
            update = await viewer.next(max(0.0, sent_at + heartbeat_seconds - clock()))


class _ProgressFrames:
    """Make the progress frames of one stream: only changes are sent, and progress never goes back."""

    def __init__(self, job_id: str) -> None:
        self._job_id = job_id
        self._last: dict[str, Any] = {}

    def of_update(self, update: JobUpdate) -> bytes:
        """Return the frames of a live update: its progress if that is new, and its preview."""
        facts = {"progress": update.progress, "stage": update.stage, "step": update.step, "steps": update.steps}
        frames = self.of_facts({name: value for name, value in facts.items() if value is not None})
        if update.preview is not None:
            body = {"id": self._job_id, "object": "video.preview", "preview": update.preview}
            frames += frame("video.preview", json.dumps(body))
        return frames

    def of_facts(self, facts: dict[str, Any]) -> bytes:
        """Return the frame of these facts, or nothing if all of them were sent before."""
        if "progress" in facts:
            facts["progress"] = max(facts["progress"], self._last.get("progress", 0))
        if all(name in self._last and self._last[name] == value for name, value in facts.items()):
            return b""
        self._last |= facts
        body = {"id": self._job_id, "object": "video.progress", "progress": self._last.get("progress", 0), **facts}
        return frame("video.progress", json.dumps(body))


def frame(name: str, data: str, *, sequence: int | None = None) -> bytes:
    """Return one server-sent event. `data` is JSON on one line."""
    identified = f"id: {sequence}\n" if sequence is not None else ""
    return f"{identified}event: {name}\ndata: {data}\n\n".encode()


def read(job_id: str, seen: int) -> tuple[list[StoredEvent], dict[str, Any]]:
    """Return a job's stored events after the sequence `seen`, oldest first, and its current progress facts."""
    with autocommit() as connection:
        return read_progress(connection, job_id, seen)
