"""POST /v1/videos/sync: order a film and wait for it, as clients of vLLM-Omni and TensorRT-LLM do."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from app.api.access import VideosCaller
from app.api.handling import HandlingDep
from app.api.idempotency import KEY_LENGTH_MAX
from app.api.request_body import release_body
from app.api.spend_headers import cost_headers
from app.api.videos.content import serve
from app.api.videos.events import read
from app.api.videos.polling import poll_seconds
from app.api.videos.received_order import read_order
from app.api.videos.routes import BODY_SCHEMA, ORDER_LIMITS, answer_order
from app.api.videos.submit_order import submit_order
from app.api.videos.translate import Body, read_body
from app.db import transaction
from app.errors import AppError
from app.event_stream import stream_slot
from app.events.types import TERMINAL_TYPES
from app.jobs.find import receipt_of
from app.jobs.idempotency import OrderIdentity
from app.jobs.live_feed import JobUpdate, LiveFeed
from app.jobs.present import error_of
from app.jobs.schemas import VideoOut
from app.jobs.states import JobState
from app.jobs.tables import Job
from app.request_limits import request_limits
from app.request_session import SessionDep, gate_place, read_in_turn

router = APIRouter(prefix="/v1/videos", tags=["videos"])

# Proxies end a connection that is silent for some minutes (deploy/haproxy.cfg: two).
WAIT_SECONDS_MAX = 100
# How often it is looked whether the client is still there, and whether an announcement was lost.
LOOK_SECONDS = 5.0
_WAIT = re.compile(r"(?:^|[,;\s])wait=(\d{1,6})(?:$|[,;\s])")
_DOCUMENTED: dict[int | str, dict[str, Any]] = {
    200: {"description": "The film", "content": {"video/mp4": {}}},
    504: {"description": "Not finished in time; repeat the call with its Idempotency-Key to wait for the same film"},
}


async def get_slots() -> AsyncIterator[ExitStack]:
    """Give a request a stack for what it holds until its response was sent."""
    with ExitStack() as stack:
        yield stack


@router.post("/sync", openapi_extra=BODY_SCHEMA, response_class=Response, responses=_DOCUMENTED)
@request_limits(ORDER_LIMITS)
def create_video_and_wait(
    http: Request,
    response: Response,
    session: SessionDep,
    caller: VideosCaller,
    body: Annotated[Body, Depends(read_body)],
    handling: HandlingDep,
    slots: Annotated[ExitStack, Depends(get_slots)],
    _key: Annotated[str | None, Header(alias="Idempotency-Key", max_length=KEY_LENGTH_MAX)] = None,
) -> Response:
    """Order a film, wait for its end, and return it as mp4.

    After 100 seconds, or those of `Prefer: wait=N`, the answer is 504 with the video's id and `Retry-After`. The film
    is rendered all the same: the same call with the same Idempotency-Key waits for it again and orders nothing. A film
    that ends otherwise is a 409 with its `error`.
    """
    received = read_order(body, handling)
    if received.request.films > 1:
        message = "This call answers with one film; order several by POST /v1/videos."
        raise AppError("invalid_request", message, field="n", allowed=1)
    order = OrderIdentity(request=received.request, fingerprint=body.fingerprint, warnings=received.warnings)
    # Before the order, so that a call that may not wait orders nothing.
    slots.enter_context(stream_slot(caller.account_id))
    video = answer_order(response, session, submit_order(http, session, caller, order, received.files))
    # The session ends with this function, before anything is waited for.
    return FilmResponse(http, caller.account_id, video, seconds=_wait_seconds(http))


def _wait_seconds(http: Request) -> int:
    wish = _WAIT.search(",".join(http.headers.getlist("prefer")).lower())
    return WAIT_SECONDS_MAX if wish is None else min(int(wish[1]), WAIT_SECONDS_MAX)


class FilmResponse(Response):
    """A response that waits for a job's end and is then its film.

    Sending it raises AppError before the first byte: `deadline_exceeded`, `conflict` for a job without a film, `gone`
    for one that was deleted, and `rate_limited` or `unavailable` as the gate and the store do. Each names the video.
    """

    def __init__(self, http: Request, account_id: str, video: VideoOut, *, seconds: int) -> None:
        super().__init__()
        self._http, self._account_id, self._video, self._seconds = http, account_id, video, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await release_body(self._http)
        feed: LiveFeed = self._http.app.state.live_feed
        is_gone = self._http.state.is_gone
        try:
            await wait_for_end(feed, self._account_id, self._video.id, seconds=self._seconds, is_gone=is_gone)
            async with gate_place(self._http):
                response = await run_in_threadpool(self._answer)
        except AppError as error:
            error.facts.setdefault("video", self._video.id)
            if error.status in (429, 503):
                error.facts.setdefault("retry_after", int(LOOK_SECONDS))
            raise
        await response(scope, receive, send)

    def _answer(self) -> Response:
        with transaction() as session:
            job = session.get_one(Job, self._video.id)
            if job.state in (JobState.QUEUED, JobState.IN_PROGRESS):
                raise self._too_late(job)
            if job.deleted_at is not None:
                raise AppError("gone", "The video was deleted.")
            error = error_of(job)
            # A cancelled job may have a film of what was rendered before.
            if error is not None and job.film_key is None:
                facts = {"video": job.id, "state": job.state, "reason": error.code}
                raise AppError("conflict", f"There is no film: {error.message}", **facts)
            receipt = receipt_of(session, job)
            # Only the call that ordered the film names a cost, or a gateway would add it up with each repeated one.
            ordered = getattr(self._http.state, "spend_headers", None)
            if receipt is not None and ordered is not None:
                self._http.state.spend_headers = {**ordered, **cost_headers(job, receipt.total)}
            return serve(session, job, "video", self._http, redirects=False)

    def _too_late(self, job: Job) -> AppError:
        message = (
            f"The film is not finished after {self._seconds} seconds; it goes on. Repeat the call with the same "
            f"Idempotency-Key to wait for it again, or poll GET /v1/videos/{job.id}."
        )
        retry_after = poll_seconds(job.state, self._video.eta)
        return AppError("deadline_exceeded", message, video=job.id, state=job.state, retry_after=retry_after)


async def wait_for_end(
    feed: LiveFeed, account_id: str, job_id: str, *, seconds: float, is_gone: Callable[[], Awaitable[bool]]
) -> bool:
    """Wait until a job has ended, for at most `seconds`; return whether it has. Ends early for a client that left."""
    clock = asyncio.get_running_loop().time
    deadline, seen = clock() + seconds, 0
    # Subscribe before reading the rows, so that no event is missed in between.
    async with feed.job(job_id) as viewer:
        update: JobUpdate | None = JobUpdate(news=True)
        while True:
            if update is None or update.news or (update.sequence or 0) > seen:
                events, _ = await read_in_turn(account_id, read, job_id, seen)
                seen = max([seen, *(event.sequence for event in events)])
                if any(event.type in TERMINAL_TYPES for event in events):
                    return True
            if clock() >= deadline or feed.is_closing or await is_gone():
                return False
            update = await viewer.next(max(0.0, min(LOOK_SECONDS, deadline - clock())))
