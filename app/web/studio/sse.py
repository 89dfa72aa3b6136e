"""Live films: one stream of server-sent events for all unfinished films of a page. It never holds a session."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from app.db import transaction
from app.errors import AppError
from app.jobs.find import find_job
from app.jobs.live_feed import STREAM_SECONDS_MAX, JobUpdate, LiveFeed
from app.jobs.states import is_final
from app.web.auth import CreatorDep, SessionDep, Visitor, find_visitor
from app.web.render import render
from app.web.studio.film_card import card_of

router = APIRouter(include_in_schema=False)

FILMS_MAX = 24
# A line is sent at least so often, so that proxies keep the stream open and a closed browser is noticed.
PING_SECONDS = 15.0

Told = tuple[str, JobUpdate | None]


@router.get("/films/live")
def follow_films(
    request: Request,
    session: SessionDep,
    visitor: CreatorDep,
    id: Annotated[list[str], Query(min_length=1, max_length=FILMS_MAX)],
) -> StreamingResponse:
    """Stream what happens to these films: `progress` while they render, `card` when one changes, `done` at the end."""
    for each in id:
        find_job(session, visitor.caller, each)
    # The session ends with this function, before the first byte is streamed.
    watch: LiveFeed | None = getattr(request.app.state, "live_feed", None)
    if watch is None:
        raise AppError("unavailable", "Live progress is not running here; pages ask again by themselves.")
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(_stream(request, visitor, watch, id), media_type="text/event-stream", headers=headers)


async def _stream(request: Request, visitor: Visitor, watch: LiveFeed, ids: Sequence[str]) -> AsyncIterator[str]:
    """Tell of the films until all have ended, for as long as whoever looks is signed in and may see them."""
    clock = asyncio.get_running_loop().time
    deadline, ask_at = clock() + STREAM_SECONDS_MAX, clock() + PING_SECONDS
    told: asyncio.Queue[Told] = asyncio.Queue()
    shown: dict[str, str] = {}
    open_ids = set(ids)
    tasks = [asyncio.create_task(_listen(watch, each, told)) for each in ids]
    try:
        # What changed between the page and the stream is told first.
        for job_id in ids:
            async for line in _card(request, visitor, job_id, shown, open_ids):
                yield line
        while open_ids:
            job_id, note = await told.get()
            if watch.is_closing or clock() >= ask_at:
                ask_at = clock() + PING_SECONDS
                # Without a last word: the page asks anew, and is let in or sent to the sign-in.
                is_over = watch.is_closing or clock() >= deadline
                if is_over or not await run_in_threadpool(_may_look, request, visitor):
                    return
            if job_id not in open_ids:
                continue
            if note is None:
                yield ": still here\n\n"
                continue
            if note.progress is not None or note.preview is not None:
                yield _event("progress", {"id": job_id, "progress": note.progress, "preview": note.preview})
            if note.news or note.sequence is not None:
                async for line in _card(request, visitor, job_id, shown, open_ids):
                    yield line
        yield _event("done", {})
    finally:
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)


async def _listen(watch: LiveFeed, job_id: str, told: asyncio.Queue[Told]) -> None:
    async with watch.job(job_id) as viewer:
        while True:
            await told.put((job_id, await viewer.next(PING_SECONDS)))


async def _card(
    request: Request, visitor: Visitor, job_id: str, shown: dict[str, str], open_ids: set[str]
) -> AsyncIterator[str]:
    """Tell of a film's card if it reads otherwise than last time; one that has ended is followed no longer."""
    html, ended = await run_in_threadpool(_draw, request, visitor, job_id)
    if ended:
        open_ids.discard(job_id)
    if shown.get(job_id) != html:
        shown[job_id] = html
        yield _event("card", {"id": job_id, "html": html, "ended": ended})


def _may_look(request: Request, visitor: Visitor) -> bool:
    """Say whether the session of a stream is still open, and whether its member may still order films."""
    with transaction() as session:
        current = find_visitor(request, session)
        return current is not None and current.session_id == visitor.session_id and current.is_creator


def _draw(request: Request, visitor: Visitor, job_id: str) -> tuple[str, bool]:
    """Return a film's card as it stands now, in a short transaction of its own, and whether the job has ended."""
    try:
        with transaction() as session:
            job = find_job(session, visitor.caller, job_id)
            return render(request, "studio/card.html", card=card_of(session, job)), is_final(job.state)
    except AppError:
        return "", True


def _event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
