"""Watch jobs as they move: one Redis subscription and one query of rows for all viewers of this process together.

A viewer is an open stream (server-sent events, a page). However many there are, no viewer holds a database session:
rows are read for all of them at once, in a short transaction on another thread.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from app.db import transaction
from app.events.tables import Event
from app.jobs.tables import Job
from app.metrics import STREAMS
from app.progress import Message, listen

log = logging.getLogger(__name__)

# A job of which nothing was heard for so long is looked up in its row.
SILENT_SECONDS = 2.0
# Notes that wait for a slow viewer; the oldest give way, since each newer one says more.
NOTES_MAX = 32
# A stream ends after so many seconds, and the client connects again with its key or its cookie: what was revoked
# meanwhile does not watch on.
STREAM_SECONDS_MAX = 1800.0
# How often a task is cancelled again that went on, and how long it is waited for in all.
CANCEL_AGAIN_SECONDS = 0.2
CANCEL_SECONDS_MAX = 3.0


@dataclass(frozen=True)
class Note:
    """Something about a job that a viewer may want to know.

    `sequence` is the job's newest event as its row tells it; `news` says that there is a new one, number unknown.
    """

    progress: int | None = None  # percent
    stage: str | None = None
    step: int | None = None
    steps: int | None = None
    preview: str | None = None  # data URL of a small JPEG
    sequence: int | None = None
    news: bool = False


class Viewer:
    """One open view of one job: its notes, in order."""

    def __init__(self) -> None:
        self._notes: asyncio.Queue[Note] = asyncio.Queue(NOTES_MAX)

    def put(self, note: Note) -> None:
        """Hand over a note without waiting."""
        if self._notes.full():
            self._notes.get_nowait()
        self._notes.put_nowait(note)

    async def next(self, seconds: float) -> Note | None:
        """Return the next note, or None when none has come for so long."""
        try:
            async with asyncio.timeout(seconds):
                return await self._notes.get()
        except TimeoutError:
            return None


class Watch:
    """The lookout of one process. Use it as a context of the running event loop; `job()` opens a view."""

    def __init__(self, *, silent_seconds: float = SILENT_SECONDS) -> None:
        self._silent_seconds = silent_seconds
        self._viewers: dict[str, set[Viewer]] = {}
        self._heard: dict[str, float] = {}
        self._looked: dict[str, Note] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.is_closing = False

    async def __aenter__(self) -> "Watch":
        self._tasks = [
            asyncio.create_task(listen(lambda: self._viewers, self._hear), name="watch-listen"),
            asyncio.create_task(self._look_forever(), name="watch-look"),
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
        await cancel_all(self._tasks)

    def close(self) -> None:
        """Have all streams end, those that are open and those that come: the process is about to end."""
        self.is_closing = True
        for job_id in self._viewers:
            self._give(job_id, Note())

    @property
    def viewers(self) -> int:
        """How many views are open."""
        return sum(len(viewers) for viewers in self._viewers.values())

    @asynccontextmanager
    async def job(self, job_id: str) -> AsyncIterator[Viewer]:
        """Open a view of a job for the block."""
        viewer = Viewer()
        self._viewers.setdefault(job_id, set()).add(viewer)
        if self.is_closing:
            viewer.put(Note())
        try:
            with STREAMS.track_inprogress():
                yield viewer
        finally:
            self._viewers[job_id].discard(viewer)
            if not self._viewers[job_id]:
                del self._viewers[job_id]
                self._heard.pop(job_id, None)
                self._looked.pop(job_id, None)

    def _hear(self, job_id: str, message: Message) -> None:
        self._heard[job_id] = time.monotonic()
        self._give(job_id, note_of(message))

    def _give(self, job_id: str, note: Note) -> None:
        for viewer in self._viewers.get(job_id, ()):
            viewer.put(note)

    async def _look_forever(self) -> None:
        while True:
            await asyncio.sleep(self._silent_seconds)
            since = time.monotonic() - self._silent_seconds
            silent = [job_id for job_id in self._viewers if self._heard.get(job_id, 0.0) <= since]
            if not silent:
                continue
            try:
                rows = await asyncio.to_thread(look_up, silent)
            except Exception as error:  # noqa: BLE001 — the database may be away; the next round asks again.
                log.warning("The rows of %s watched jobs could not be read: %s", len(silent), error)
                continue
            for job_id, note in rows.items():
                if job_id in self._viewers and self._looked.get(job_id) != note:
                    self._looked[job_id] = note
                    self._give(job_id, note)


async def cancel_all(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait until they have ended; one that went on is cancelled again.

    A library may lose a cancellation on its way (redis-py does, before Python 3.12), and a task that is waited for
    without end keeps the whole process from ending. One that does not end at all is logged and left.
    """
    pending = {task for task in tasks if not task.done()}
    deadline = time.monotonic() + CANCEL_SECONDS_MAX
    while pending and time.monotonic() < deadline:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_SECONDS)
    for task in pending:
        log.error("The task %s was cancelled and has not ended; it is left behind.", task.get_name())


def note_of(message: Message) -> Note:
    """Return what a live message says; one that is not about progress says that there is a new event."""
    if message.get("type") != "progress":
        return Note(news=True)
    # A finish has no steps to count.
    steps = _whole(message.get("steps")) or None
    return Note(
        progress=_whole(message.get("progress")),
        step=_whole(message.get("step")) if steps else None,
        steps=steps,
        preview=message.get("preview"),
    )


def look_up(job_ids: Sequence[str]) -> dict[str, Note]:
    """Return what the rows say of these jobs, by one query."""
    newest = select(func.max(Event.sequence)).where(Event.job_id == Job.id).scalar_subquery()
    with transaction() as session:
        rows = session.execute(select(Job.id, Job.progress, Job.stage, newest).where(Job.id.in_(job_ids))).all()
    return {row[0]: Note(progress=row[1], stage=row[2], sequence=row[3]) for row in rows}


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) else None
