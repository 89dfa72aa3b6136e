"""Live events of one video, as server-sent events: its story so far, its progress, previews, and how it ended."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy import select

from app.api.access import SessionDep, VideosCaller
from app.db import transaction
from app.dispatch.eta import forecast
from app.events.tables import Event
from app.events.types import TERMINAL_TYPES
from app.jobs.find import find_job
from app.jobs.live_feed import STREAM_SECONDS_MAX, JobUpdate, LiveFeed
from app.jobs.states import is_final
from app.jobs.tables import Job

router = APIRouter(prefix="/v1/videos", tags=["videos"])

# A comment this often keeps proxies from closing a quiet stream, and tells us when the client has gone.
HEARTBEAT_SECONDS = 15.0
RETRY_MS = 2000
HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
_DOCUMENTED: dict[int | str, dict[str, Any]] = {
    200: {"description": "A stream that ends after the video's last event", "content": {"text/event-stream": {}}},
    204: {"description": "The client has seen the video's last event; it need not connect again"},
}


@router.get("/{video_id}/events", response_class=StreamingResponse, responses=_DOCUMENTED)
def stream_video_events(
    http: Request,
    session: SessionDep,
    caller: VideosCaller,
    video_id: str,
    last_event_id: Annotated[int, Header(ge=0)] = 0,
) -> Response:
    """Follow a video as server-sent events until it has ended.

    `video.created`, `video.started` and the video's last event carry the same bodies as webhooks, and their `sequence`
    as id: a client that connects again with `Last-Event-ID` misses none of them. Between them come `video.progress`
    and `video.preview` (a small JPEG as data URL), which are not repeated.
    """
    job = find_job(session, caller, video_id)
    ended = session.scalar(select(Event.sequence).where(Event.job_id == job.id, Event.type.in_(TERMINAL_TYPES)))
    if ended is not None and last_event_id >= ended:
        return Response(status_code=204)
    # The session ends with this function, before the first byte is streamed.
    stream = stream_events(http.app.state.live_feed, job.id, after=last_event_id)
    return StreamingResponse(stream, media_type="text/event-stream", headers=HEADERS)


async def stream_events(
    feed: LiveFeed, job_id: str, *, after: int = 0, heartbeat_seconds: float = HEARTBEAT_SECONDS
) -> AsyncIterator[bytes]:
    """Yield a job's server-sent events: the stored ones after `after`, then what happens, up to the terminal one."""
    yield f"retry: {RETRY_MS}\n\n".encode()
    clock = asyncio.get_running_loop().time
    deadline = clock() + STREAM_SECONDS_MAX
    seen, progress, sent_at = after, _Shown(job_id), clock()
    # The view is opened before the rows are read, so nothing falls between the two.
    async with feed.job(job_id) as viewer:
        update: JobUpdate | None = JobUpdate(news=True)
        while clock() < deadline and not feed.is_closing:
            # Notes that say nothing new keep no stream alive, so it is the bytes that are counted.
            is_quiet = update is None or clock() - sent_at >= heartbeat_seconds
            if update is not None and (frames := progress.note(update)):
                yield frames
                sent_at = clock()
            elif is_quiet:
                yield b": alive\n\n"
                sent_at = clock()
            # A quiet stream reads the rows too: its place in the queue has moved, or a note was lost on the way.
            if update is None or is_quiet or update.news or (update.sequence or 0) > seen:
                events, facts = await asyncio.to_thread(read, job_id, seen)
                for event in events:
                    yield frame(event.type, event.body, sequence=event.sequence)
                    seen = event.sequence or seen
                    if event.type in TERMINAL_TYPES:
                        return
                if frames := progress.facts(facts):
                    yield frames
                if events or frames:
                    sent_at = clock()
            update = await viewer.next(max(0.0, sent_at + heartbeat_seconds - clock()))


class _Shown:
    """What a stream has shown of a job's progress: it shows what is new, and progress never goes back."""

    def __init__(self, job_id: str) -> None:
        self._job_id = job_id
        self._last: dict[str, Any] = {}

    def note(self, note: JobUpdate) -> bytes:
        """Return the frames of a note: progress where it is new, and the preview."""
        facts = {"progress": note.progress, "stage": note.stage, "step": note.step, "steps": note.steps}
        frames = self.facts({name: value for name, value in facts.items() if value is not None})
        if note.preview is not None:
            body = {"id": self._job_id, "object": "video.preview", "preview": note.preview}
            frames += frame("video.preview", json.dumps(body))
        return frames

    def facts(self, facts: dict[str, Any]) -> bytes:
        """Return the frame of these facts, or nothing where all of them have been shown."""
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


def read(job_id: str, seen: int) -> tuple[list[Event], dict[str, Any]]:
    """Return a job's stored events after the sequence `seen`, oldest first, and what can be said of it now."""
    with transaction() as session:
        query = select(Event).where(Event.job_id == job_id, Event.sequence > seen).order_by(Event.sequence)
        events = list(session.scalars(query))
        job = session.get_one(Job, job_id)
        facts: dict[str, Any] = {"progress": job.progress}
        if not is_final(job.state):
            foreseen = forecast(session, job)
            facts |= {"stage": job.stage, "queue_position": foreseen.position, "eta": foreseen.eta()}
    return events, facts
