"""Video routes of the native interface: estimate, quote, create, list, get, cancel, delete, content and receipt."""

import json
import logging
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import BaseModel
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.accounts.caller import require_active
from app.accounts.key_holder import KeyHolder
from app.api.access import VideosCaller, answers_poll
from app.api.direct_answers import answered_directly
from app.api.handling import HandlingDep
from app.api.idempotency import KEY_LENGTH_MAX
from app.api.model_headers import announce_model
from app.api.videos.content import SERVED, Variant, serve
from app.api.videos.inputs import borrowed_inputs, ingest_inputs
from app.api.videos.list_filters import METADATA_PARAMETER, JobFilterDep
from app.api.videos.polling import poll_headers, video_etag
from app.api.videos.received_order import read_order
from app.api.videos.submit_order import submit_order
from app.api.videos.translate import Body, read_body
from app.assets.limits import ORDER_FORM_BYTES_MAX
from app.db import commit_early
from app.dispatch.eta import forecast, forecasts
from app.dispatch.poll import poll_job
from app.errors import AppError, not_found
from app.etags import matches_etag
from app.jobs.cancel import request_cancel
from app.jobs.check_files import check_request_files
from app.jobs.check_order import check_request
from app.jobs.delete import delete
from app.jobs.find import PAGE_MAX, find_job, list_jobs, receipt_of, receipts_of
from app.jobs.idempotency import OrderIdentity
from app.jobs.links import revoke_links
from app.jobs.present import show_job
from app.jobs.quote import estimate_films, make_quote, show_estimate, show_quote
from app.jobs.rate_limits import check_films
from app.jobs.schemas import EstimateOut, QuoteOut, VideoOut
from app.jobs.states import is_final
from app.jobs.tables import Job
from app.request_limits import RequestLimits, WorkKind, request_limits
from app.request_session import SessionDep
from app.roles import Scope

log = logging.getLogger(__name__)

router = APIRouter(prefix="/v1/videos", tags=["videos"])

BodyDep = Annotated[Body, Depends(read_body)]


class VideoPage(BaseModel):
    """A page of videos. The next page starts after `last_id`."""

    object: Literal["list"] = "list"
    data: list[VideoOut]
    first_id: str | None
    last_id: str | None
    has_more: bool


class VideoDeleted(BaseModel):
    """Confirmation that a video was deleted. Its receipt stays."""

    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: bool = True


# An order may hold data URLs, or come as a form with its files.
ORDER_LIMITS = RequestLimits(WorkKind.ORDER, data_urls=True, form_bytes_max=ORDER_FORM_BYTES_MAX)

# The route parses the body itself, because clients send it in three formats; this documents its schema.
BODY_SCHEMA: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            kind: {"schema": {"$ref": "#/components/schemas/VideoRequest"}}
            for kind in ("application/json", "multipart/form-data")
        },
    }
}


def view(session: Session, job: Job) -> VideoOut:
    """Return a job in the native format: with its queue position while it waits, and its charge after it has ended."""
    if is_final(job.state):
        return show_job(job, receipt=receipt_of(session, job))
    outlook = forecast(session, job)
    return show_job(job, queue_position=outlook.position, eta=outlook.eta())


def views(session: Session, jobs: Sequence[Job]) -> list[VideoOut]:
    """Return a page of jobs in the native format, as `view` does, with as many statements as for one."""
    outlooks, receipts = forecasts(session, jobs), receipts_of(session, jobs)
    return [
        show_job(
            job,
            receipt=receipts.get(job.id),
            queue_position=outlooks[job.id].position,
            eta=outlooks[job.id].eta(),
        )
        for job in jobs
    ]


def view_committed(session: Session, job: Job) -> VideoOut:
    """Commit what was done to a job, and return it in the native format as `view` does.

    The forecast is read after the commit, so that nobody waits for it. Where that fails, the job is shown without one:
    an error would make the caller repeat what is done.
    """
    commit_early(session)
    try:
        return view(session, job)
    except SQLAlchemyError as error:
        log.warning("The forecast of an answer could not be read: %s", error)
        session.rollback()
        return show_job(job)


@router.post("/estimates", openapi_extra=BODY_SCHEMA)
@request_limits(ORDER_LIMITS)
def estimate_video(
    http: Request, session: SessionDep, caller: VideosCaller, body: BodyDep, handling: HandlingDep
) -> EstimateOut:
    """Price a request. Nothing is stored, and the price is not locked."""
    order = read_order(body, handling)
    with borrowed_inputs(session, caller, order.request, order.files) as request:
        check_films(session, caller, request.films)
        films = estimate_films(session, caller, request)
    announce_model(http, films[0].model.id)
    return show_estimate(films, request, order.warnings)


@router.post("/quotes", openapi_extra=BODY_SCHEMA)
@request_limits(ORDER_LIMITS)
def quote_video(
    http: Request, session: SessionDep, caller: VideosCaller, body: BodyDep, handling: HandlingDep
) -> QuoteOut:
    """Lock the price of a request for some minutes. Send the same request with `quote_id` to redeem it once."""
    require_active(caller)
    order = read_order(body, handling)
    check_request(session, caller, order.request, has_files=bool(order.files.keys() - {"audio"}))
    check = partial(check_request_files, session, caller)
    request = ingest_inputs(session, caller, order.request, order.files, check=check)
    quote = make_quote(session, caller, request)
    announce_model(http, str(quote.spec["model"]))
    return show_quote(quote, order.warnings)


@router.post("", openapi_extra=BODY_SCHEMA)
@request_limits(ORDER_LIMITS)
def create_video(
    http: Request,
    response: Response,
    session: SessionDep,
    caller: VideosCaller,
    body: BodyDep,
    handling: HandlingDep,
    _key: Annotated[str | None, Header(alias="Idempotency-Key", max_length=KEY_LENGTH_MAX)] = None,
    _retries: Annotated[int, Header(alias="X-Stainless-Retry-Count", ge=0)] = 0,
) -> VideoOut:
    """Order a film. Its price is held in the wallet now; what is delivered is charged at the end."""
    received = read_order(body, handling)
    order = OrderIdentity(request=received.request, fingerprint=body.fingerprint, warnings=received.warnings)
    return answer_order(response, session, submit_order(http, session, caller, order, received.files))


def answer_order(response: Response, session: Session, job: Job) -> VideoOut:
    """Commit an order, and return the video of its job, with the headers of a poll."""
    video = view_committed(session, job)
    response.headers.update(poll_headers(video))
    return video


@router.get("", openapi_extra=METADATA_PARAMETER)
def list_videos(
    session: SessionDep,
    caller: VideosCaller,
    wanted: JobFilterDep,
    after: Annotated[str | None, Query(max_length=64)] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 20,
    order: Literal["asc", "desc"] = "desc",
) -> VideoPage:
    """List the caller's videos, newest first by default. A parameter that is not known here is refused."""
    jobs, more = list_jobs(session, caller, wanted, after=after, limit=limit, order=order)
    data = views(session, jobs)
    return VideoPage(
        data=data, first_id=data[0].id if data else None, last_id=data[-1].id if data else None, has_more=more
    )


def _answer_poll(http: Request, connection: Connection, holder: KeyHolder) -> Response:
    """Return the answer to a poll: the video, or 304 where the client has it as it is."""
    video = poll_job(connection, holder, http.path_params["video_id"]).video()
    headers = {"cache-control": "private, no-cache", "etag": video_etag(video), **poll_headers(video)}
    if matches_etag(http.headers.get("if-none-match", ""), headers["etag"]):
        return Response(status_code=304, headers=headers)
    return Response(video.model_dump_json(), media_type="application/json", headers=headers)


_poll = answers_poll(Scope.VIDEOS, _answer_poll)


@router.get("/{video_id}", response_model=VideoOut, responses={304: {"description": "The client has it as it is"}})
@answered_directly(_poll)
async def get_video(
    video_id: str,
    answer: Annotated[Response, Depends(_poll)],
    if_none_match: Annotated[str | None, Header(description="The ETag of an earlier answer.")] = None,
) -> Response:
    """Return a video in its current state, and in `openai-poll-after-ms` when to ask again.

    With `If-None-Match` the answer is 304 without a body while nothing but the countdown of `eta` has changed.
    """
    return answer


@router.post("/{video_id}/cancel")
def cancel_video(session: SessionDep, caller: VideosCaller, video_id: str) -> VideoOut:
    """Cancel a video. What was already rendered is delivered and charged, and nothing else."""
    return view_committed(session, request_cancel(session, find_job(session, caller, video_id, lock=True)))


@router.delete("/{video_id}")
def delete_video(session: SessionDep, caller: VideosCaller, video_id: str) -> VideoDeleted:
    """Delete an ended video and its files. Its receipt stays."""
    delete(session, find_job(session, caller, video_id, lock=True))
    return VideoDeleted(id=video_id)


@router.post("/{video_id}/revoke_links")
def revoke_video_links(session: SessionDep, caller: VideosCaller, video_id: str) -> VideoOut:
    """Revoke every link to this film that works without a key, before it expires by itself. New links work."""
    job = find_job(session, caller, video_id, lock=True)
    revoke_links(job)
    return view(session, job)


@router.head("/{video_id}/content", include_in_schema=False)
@router.get("/{video_id}/content", response_class=Response, responses=SERVED)
def get_video_content(
    http: Request, session: SessionDep, caller: VideosCaller, video_id: str, variant: Variant = "video"
) -> Response:
    """Download the film, its thumbnail or its sprite sheet. Byte ranges work; files on S3 are served by redirect."""
    return serve(session, find_job(session, caller, video_id), variant, http)


@router.get("/{video_id}/receipt")
def get_video_receipt(session: SessionDep, caller: VideosCaller, video_id: str) -> dict[str, Any]:
    """Return the receipt of an ended video. Each line names its pricing rule, and the receipt can be recomputed."""
    job = find_job(session, caller, video_id)
    row = receipt_of(session, job)
    if row is None:
        raise not_found("receipt", video_id) if not is_final(job.state) else AppError("internal_error", "No receipt.")
    return {"object": "video.receipt", "number": row.number, "video": job.id, "test": job.test, **json.loads(row.body)}
