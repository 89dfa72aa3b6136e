"""Live updates of jobs: one Redis subscription and one query of rows for all viewers of this process together.

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

# A job without a message for so long is read from its row.
SILENT_SECONDS = 2.0
# Updates queued for a slow viewer; the oldest are dropped, since each newer one is more current.
UPDATES_MAX = 32
# A stream ends after so many seconds, and the client reconnects with its key or its cookie: credentials that were
# revoked meanwhile stop working.
STREAM_SECONDS_MAX = 1800.0
# How often a task is cancelled again that went on, and how long it is waited for in all.
CANCEL_AGAIN_SECONDS = 0.2
CANCEL_SECONDS_MAX = 3.0


@dataclass(frozen=True)
class JobUpdate:
    """An update of a job for its viewers.

    `sequence` is the job's newest event as read from the database; `news` means a new event of unknown number.
    """

    progress: int | None = None  # percent
    stage: str | None = None
    step: int | None = None
    steps: int | None = None
    preview: str | None = None  # data URL of a small JPEG
    sequence: int | None = None
    news: bool = False


class Viewer:
    """One open view of one job: its updates, in order."""

    def __init__(self) -> None:
        self._updates: asyncio.Queue[JobUpdate] = asyncio.Queue(UPDATES_MAX)

    def put(self, update: JobUpdate) -> None:
        """Queue an update without waiting."""
        if self._updates.full():
            self._updates.get_nowait()
        self._updates.put_nowait(update)

    async def next(self, seconds: float) -> JobUpdate | None:
        """Return the next update, or None when none has arrived within `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                return await self._updates.get()
        except TimeoutError:
            return None


class LiveFeed:
    """The live feed of one process. Use it as a context manager in the running event loop; `job()` opens a view."""

    def __init__(self, *, silent_seconds: float = SILENT_SECONDS) -> None:
        self._silent_seconds = silent_seconds
        self._viewers: dict[str, set[Viewer]] = {}
        self._heard_at: dict[str, float] = {}
        self._from_rows: dict[str, JobUpdate] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.is_closing = False

    async def __aenter__(self) -> "LiveFeed":
        self._tasks = [
            asyncio.create_task(listen(lambda: self._viewers, self._receive), name="watch-listen"),
            asyncio.create_task(self._read_rows_forever(), name="watch-rows"),
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
        await cancel_all(self._tasks)

    def close(self) -> None:
        """Have all streams end, those that are open and those that come: the process is about to end."""
        self.is_closing = True
        for job_id in self._viewers:
            self._send(job_id, JobUpdate())

    @property
    def viewers(self) -> int:
        """The number of open views."""
        return sum(len(viewers) for viewers in self._viewers.values())

    @asynccontextmanager
    async def job(self, job_id: str) -> AsyncIterator[Viewer]:
        """Open a view of a job for the block."""
        viewer = Viewer()
        self._viewers.setdefault(job_id, set()).add(viewer)
        if self.is_closing:
            viewer.put(JobUpdate())
        try:
            with STREAMS.track_inprogress():
                yield viewer
        finally:
            self._viewers[job_id].discard(viewer)
            if not self._viewers[job_id]:
                del self._viewers[job_id]
                self._heard_at.pop(job_id, None)
                self._from_rows.pop(job_id, None)

    def _receive(self, job_id: str, message: Message) -> None:
        self._heard_at[job_id] = time.monotonic()
        self._send(job_id, update_of(message))

    def _send(self, job_id: str, update: JobUpdate) -> None:
        for viewer in self._viewers.get(job_id, ()):
            viewer.put(update)

    async def _read_rows_forever(self) -> None:
        while True:
            await asyncio.sleep(self._silent_seconds)
            since = time.monotonic() - self._silent_seconds
            silent = [job_id for job_id in self._viewers if self._heard_at.get(job_id, 0.0) <= since]
            if not silent:
                continue
            try:
                updates = await asyncio.to_thread(read_updates, silent)
            except Exception as error:  # noqa: BLE001 — the database may be unreachable; the next round retries.
                log.warning("The rows of %s watched jobs could not be read: %s", len(silent), error)
                continue
            for job_id, update in updates.items():
                if job_id in self._viewers and self._from_rows.get(job_id) != update:
                    self._from_rows[job_id] = update
                    self._send(job_id, update)


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


def update_of(message: Message) -> JobUpdate:
    """Convert a live message; one that is not about progress announces a new event."""
    if message.get("type") != "progress":
        return JobUpdate(news=True)
    # A finish has no steps to count.
    steps = _int_or_none(message.get("steps")) or None
    return JobUpdate(
        progress=_int_or_none(message.get("progress")),
        step=_int_or_none(message.get("step")) if steps else None,
        steps=steps,
        preview=message.get("preview"),
    )


def read_updates(job_ids: Sequence[str]) -> dict[str, JobUpdate]:
    """Read the updates of these jobs from their rows, by one query."""
    newest = select(func.max(Event.sequence)).where(Event.job_id == Job.id).scalar_subquery()
    with transaction() as session:
        rows = session.execute(select(Job.id, Job.progress, Job.stage, newest).where(Job.id.in_(job_ids))).all()
    return {row[0]: JobUpdate(progress=row[1], stage=row[2], sequence=row[3]) for row in rows}


def _int_or_none(value: Any) -> int | None:
    return value if isinstance(value, int) else None
