"""Live progress: one stream of server-sent events for all unfinished films of a page. It holds no database session."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from app.db import transaction
from app.errors import AppError, not_found
from app.event_stream import EventStream
from app.jobs.find import find_jobs
from app.jobs.live_feed import STREAM_SECONDS_MAX, JobUpdate, LiveFeed
from app.jobs.states import is_final
from app.request_limits import RequestLimits, WorkKind, request_limits
from app.request_session import read_in_turn
from app.web.auth import CreatorDep, SessionDep, Visitor, find_visitor
from app.web.render import render
from app.web.studio.film_card import cards_of

router = APIRouter(include_in_schema=False)

# As many as a page of the gallery shows.
FILMS_MAX = 60
# The longest time without a line, so that proxies keep the stream open and a closed browser is noticed.
PING_SECONDS = 15.0

FilmUpdate = tuple[str, JobUpdate | None]


@router.get("/films/live")
@request_limits(RequestLimits(work=WorkKind.STREAM))
def follow_films(
    request: Request,
    session: SessionDep,
    visitor: CreatorDep,
    id: Annotated[list[str], Query(min_length=1, max_length=FILMS_MAX)],
) -> EventStream:
    """Stream the updates of these films: `progress` while they render, `card` when one changes, `done` at the end."""
    ids = list(dict.fromkeys(id))
    missing = set(ids) - {job.id for job in find_jobs(session, visitor.caller, ids)}
    if missing:
        raise not_found("video", min(missing))
    # The database session ends with this function, before the first byte is streamed.
    feed: LiveFeed | None = getattr(request.app.state, "live_feed", None)
    if feed is None:
        raise AppError("unavailable", "Live progress is not available here; pages poll instead.")
    return EventStream(visitor.caller.account_id, _stream(request, visitor, feed, ids))


async def _stream(request: Request, visitor: Visitor, feed: LiveFeed, ids: Sequence[str]) -> AsyncIterator[str]:
    """Yield events until all films have ended, while the visitor is signed in and may see them."""
    clock = asyncio.get_running_loop().time
    deadline, check_at = clock() + STREAM_SECONDS_MAX, clock() + PING_SECONDS
    updates: asyncio.Queue[FilmUpdate] = asyncio.Queue()
    last_html: dict[str, str] = {}
    open_ids = set(ids)
    tasks = [asyncio.create_task(_listen(feed, each, updates)) for each in ids]
    try:
        # First send what changed between the page and the stream.
        async for line in _cards(request, visitor, ids, last_html, open_ids):
            yield line
        while open_ids:
            job_id, update = await updates.get()
            if feed.is_closing or clock() >= check_at:
                check_at = clock() + PING_SECONDS
                # No final event: the page reconnects, and is admitted or redirected to the sign-in.
                is_over = feed.is_closing or clock() >= deadline
                if is_over or not await read_in_turn(visitor.caller.account_id, _is_still_allowed, request, visitor):
                    return
            if job_id not in open_ids:
                continue
            if update is None:
                yield ": still here\n\n"
                continue
            if update.progress is not None or update.preview is not None:
                yield _event("progress", {"id": job_id, "progress": update.progress, "preview": update.preview})
            if update.news or update.sequence is not None:
                async for line in _cards(request, visitor, [job_id], last_html, open_ids):
                    yield line
        yield _event("done", {})
    finally:
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)


async def _listen(feed: LiveFeed, job_id: str, updates: asyncio.Queue[FilmUpdate]) -> None:
    async with feed.job(job_id) as viewer:
        while True:
            await updates.put((job_id, await viewer.next(PING_SECONDS)))


async def _cards(
    request: Request, visitor: Visitor, ids: Sequence[str], last_html: dict[str, str], open_ids: set[str]
) -> AsyncIterator[str]:
    """Yield the cards of films that changed since the last time; stop following films that have ended."""
    cards = await read_in_turn(visitor.caller.account_id, _render_cards, request, visitor, ids)
    for job_id in ids:
        # A film that was deleted meanwhile has ended, and its card is empty.
        html, ended = cards.get(job_id, ("", True))
        if ended:
            open_ids.discard(job_id)
        if last_html.get(job_id) != html:
            last_html[job_id] = html
            yield _event("card", {"id": job_id, "html": html, "ended": ended})


def _is_still_allowed(request: Request, visitor: Visitor) -> bool:
    """Return whether the stream's sign-in session is still open and its member may still create films."""
    with transaction() as session:
        current = find_visitor(request, session)
        return current is not None and current.session_id == visitor.session_id and current.is_creator


def _render_cards(request: Request, visitor: Visitor, ids: Sequence[str]) -> dict[str, tuple[str, bool]]:
    """Render the current cards of films in one short transaction; return each with whether its job has ended."""
    with transaction() as session:
        jobs = find_jobs(session, visitor.caller, ids)
        return {
            job.id: (render(request, "studio/card.html", card=card), is_final(job.state))
            for job, card in zip(jobs, cards_of(session, jobs), strict=True)
        }


def _event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
