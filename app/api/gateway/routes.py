"""Routes of the AI Gateway interface: one call that answers with the film, start and status, and the models."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy.orm import Session

from app.api.access import VideosCaller, require_key
from app.api.caller_fields import caller_field_names
from app.api.gateway.errors import (
    FAILED_STATUS,
    FAILED_TYPE,
    GatewayErrorOut,
    error_response,
    status_of,
    type_of,
)
from app.api.gateway.film_data import Film, InlineFilmResponse, find_films, with_films
from app.api.gateway.translate import (
    CREATOR,
    VideoCall,
    call_schema,
    failure_of,
    to_metadata,
    to_native,
    to_status,
)
from app.api.idempotency import idempotency_key
from app.api.interface import ApiInterface
from app.api.json_body import JsonBodyDep
from app.api.request_body import release_body
from app.api.videos.submit_order import submit_order
from app.api.videos.translate import Body
from app.api.videos.wait_for_end import wait_for_ends
from app.catalog.models import load_catalog
from app.db import commit_early, transaction
from app.errors import AppError
from app.event_stream import EventStream
from app.jobs.find import find_job, receipts_of
from app.jobs.groups import find_group, jobs_of, present_jobs
from app.jobs.idempotency import OrderIdentity, body_fingerprint, identical_job
from app.jobs.links import make_link
from app.jobs.live_feed import STREAM_SECONDS_MAX, LiveFeed
from app.jobs.model_terms import on_sale
from app.jobs.schemas import VideoRequest
from app.jobs.tables import Job
from app.request_limits import RequestLimits, WorkKind, request_limits
from app.request_session import SessionDep, read_in_turn
from app.settings import get_settings

PREFIX = "/v4/ai"
# Comments at this interval keep proxies and the client's own time-out from ending a quiet call.
HEARTBEAT_SECONDS = 15.0
_STATUSES = (400, 401, 402, 403, 404, 405, 408, 413, 415, 422, 429, 503)
router = APIRouter(
    prefix=PREFIX, tags=["gateway"], responses={status: {"model": GatewayErrorOut} for status in _STATUSES}
)
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "One event: the result, or why there is none", "content": {"text/event-stream": {}}}
}
_ORDER_LIMITS = RequestLimits(work=WorkKind.ORDER, data_urls=True)

ModelId = Annotated[str, Header(alias="ai-model-id", max_length=200, description="`cinemeter/demo`, or `demo`.")]


def make_interface() -> ApiInterface:
    """Return the AI Gateway interface."""
    return ApiInterface(prefix=f"{PREFIX}/", routers=(router,), error_response=error_response, authorize=require_key)


def _order(http: Request, call: VideoCall, model_id: str, body: Body) -> OrderIdentity:
    # The model is in a header, so it is part of what makes two calls the same.
    path = f"{http.url.path}?{model_id}"
    return OrderIdentity(
        request=VideoRequest.model_validate(call.values),
        door="gateway",
        fingerprint=body_fingerprint(http.method, path, body.fingerprint.encode()),
    )


@router.post(
    "/video-model", openapi_extra=call_schema("VideoCall"), response_class=StreamingResponse, responses=_STREAM
)
@request_limits(_ORDER_LIMITS)
def generate_gateway_video(
    http: Request, session: SessionDep, caller: VideosCaller, body: JsonBodyDep, model_id: ModelId = ""
) -> Response:
    """Order a film, or `n` of them, and answer with it as one server-sent event; comments come until then.

    The client repeats a call that was interrupted, without a key. So the same body under the same API key is answered
    with the same film while it is made and for 10 minutes after; another `seed`, or an `Idempotency-Key`, orders anew.
    """
    call = to_native(model_id, body.values)
    with caller_field_names(call.names):
        order = _order(http, call, model_id, body)
        job = None
        if idempotency_key(http) is None:
            earlier = identical_job(session, caller, order)
            # Two that arrive at once are told apart under the lock of the order.
            order = replace(order, is_retry=True, answers_with_film=True)
            if earlier is not None:
                job = earlier
                text = "An identical call ordered this film. Send another seed or an Idempotency-Key for a new one."
                call.warnings.append({"type": "other", "message": text})
        job = job or submit_order(http, session, caller, order)
    job_ids = [each.id for each in _together(session, job)]
    return EventStream(job.account_id, _stream_result(http, job_ids, job.account_id, call.warnings))


def _together(session: Session, job: Job) -> list[Job]:
    """Return a job, or all that were ordered with it."""
    return [job] if job.group_id is None else jobs_of(session, job.group_id)


async def _stream_result(
    http: Request, job_ids: list[str], account_id: str, warnings: list[dict[str, str]]
) -> AsyncIterator[bytes]:
    """Yield comments until jobs have ended, and then their result as the one event of the stream."""
    await release_body(http)
    feed: LiveFeed = http.app.state.live_feed
    yield b": the film is being made\n\n"
    clock = asyncio.get_running_loop().time
    deadline = clock() + STREAM_SECONDS_MAX
    while not await wait_for_ends(feed, job_ids, account_id=account_id, seconds=HEARTBEAT_SECONDS):
        if feed.is_closing:
            # The client calls again, and is answered with the same film.
            yield _event(_error("This process ends; call again.", "internal_server_error", 503))
            return
        if clock() >= deadline:
            message = f"{job_ids[0]} takes longer than a call may; ask for it with `poll`."
            yield _event(_error(message, FAILED_TYPE, 424))
            return
        yield b": alive\n\n"
    content, films = await read_in_turn(account_id, _result, job_ids, warnings)
    if not films:
        yield _event(content)
        return
    try:
        entries = await asyncio.to_thread(find_films, films)
    except AppError as error:
        yield _event(_error(error.message, type_of(error.code), status_of(error.code), job_ids[0]))
        return
    yield b"data: "
    async for piece in with_films(content, entries):
        yield piece
    yield b"\n\n"


def _result(job_ids: list[str], warnings: list[dict[str, str]]) -> tuple[dict[str, Any], list[Film]]:
    """Return the event that ends a call, and its films: those of ended jobs, or why there is none."""
    with transaction() as session:
        found = (session.get(Job, job_id) for job_id in job_ids)
        jobs = [job for job in found if job is not None and job.deleted_at is None and job.files_removed_at is None]
        if not jobs:
            return _error("The video was deleted.", type_of("gone"), status_of("gone"), job_ids[0]), []
        # A cancelled job may have a film of what was rendered before.
        films = _films(session, jobs)
        if not films:
            return _error(failure_of(jobs), FAILED_TYPE, FAILED_STATUS, jobs[0].id), []
        missing = [
            {"type": "other", "message": f"{job.id} has no film: {failure_of([job])}"}
            for job in jobs
            if job.film_key is None
        ]
        metadata = to_metadata(jobs, receipts_of(session, jobs))
    return {"type": "result", "warnings": [*warnings, *missing], "providerMetadata": metadata}, films


def _films(session: Session, jobs: list[Job]) -> list[Film]:
    """Return the films that jobs have."""
    return [Film(job.account_id, job.film_key, make_link(session, job)) for job in jobs if job.film_key is not None]


def _error(message: str, kind: str, status: int, param: str | None = None) -> dict[str, Any]:
    return {"type": "error", "message": message, "errorType": kind, "statusCode": status, "param": param}


def _event(content: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(content)}\n\n".encode()


@router.post("/video-model/start", openapi_extra=call_schema("VideoStart"))
@request_limits(_ORDER_LIMITS)
def start_gateway_video(
    http: Request, session: SessionDep, caller: VideosCaller, body: JsonBodyDep, model_id: ModelId = ""
) -> dict[str, Any]:
    """Order a film. `operation` comes back to the status route; `callbackUrl` is called when the film has ended."""
    call = to_native(model_id, body.values)
    with caller_field_names(call.names):
        job = submit_order(http, session, caller, _order(http, call, model_id, body))
    jobs = _together(session, job)
    group = {} if job.group_id is None else {"group": job.group_id}
    return {
        "operation": {"id": job.id, **group},
        "warnings": call.warnings,
        "providerMetadata": to_metadata(jobs, receipts_of(session, jobs)),
    }


_OPERATION = {"id": {"type": "string"}, "group": {"type": "string"}}
_STATUS_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "title": "VideoOperation",
                    "type": "object",
                    "required": ["operation"],
                    "properties": {"operation": {"type": "object", "properties": _OPERATION}},
                }
            }
        },
    }
}


@router.post("/video-model/status", openapi_extra=_STATUS_BODY, response_model=dict[str, Any])
def get_gateway_status(session: SessionDep, caller: VideosCaller, body: JsonBodyDep) -> Any:
    """Return the state of the film of an `operation`, and the film when it is completed."""
    operation = body.values.get("operation")
    job_id = operation.get("id") if isinstance(operation, dict) else None
    if not isinstance(job_id, str):
        raise AppError("invalid_request", "operation must be what the start of the film answered.", field="operation")
    group_id = operation.get("group") if isinstance(operation, dict) else None
    if isinstance(group_id, str):
        jobs = present_jobs(session, find_group(session, caller, group_id))
    else:
        jobs = [find_job(session, caller, job_id)]
    status = to_status(jobs, receipts_of(session, jobs))
    if status["status"] != "completed":
        return status
    films = _films(session, [job for job in jobs if job.files_removed_at is None])
    if not films:
        raise AppError("gone", "The files of this video were removed when their retention ended.")
    commit_early(session)
    return InlineFilmResponse(films[0].account_id, status, find_films(films))


@router.get("/config")
def list_gateway_models(session: SessionDep, _caller: VideosCaller) -> dict[str, Any]:
    """List the enabled models, as the client's getAvailableModels expects them. Prices are at GET /v1/models."""
    models = on_sale(session, load_catalog(get_settings().catalog_dir).values())
    return {
        "models": [
            {
                "id": f"{CREATOR}/{model.id}",
                "name": model.name,
                "description": model.note,
                "modelType": "video",
                "specification": {
                    "specificationVersion": "v4",
                    "provider": CREATOR,
                    "modelId": f"{CREATOR}/{model.id}",
                },
            }
            for model in models
        ]
    }
