"""Routes of the AI Gateway interface: one call that answers with the film, start and status, and the models."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import StreamingResponse

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
from app.api.gateway.film_data import Film, InlineFilmResponse, find_film, with_film
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
from app.api.videos.wait_for_end import wait_for_end
from app.catalog.models import load_catalog
from app.db import commit_early, transaction
from app.errors import AppError
from app.event_stream import EventStream
from app.jobs.find import find_job, receipt_of
from app.jobs.idempotency import OrderIdentity, body_fingerprint, identical_job
from app.jobs.links import make_link
from app.jobs.live_feed import STREAM_SECONDS_MAX, LiveFeed
from app.jobs.model_terms import on_sale
from app.jobs.schemas import VideoRequest
from app.jobs.tables import Job, ReceiptRow
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
    """Order a film and answer with it, as one server-sent event; comments come until then.

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
    return EventStream(job.account_id, _stream_result(http, job.id, job.account_id, call.warnings))


async def _stream_result(
    http: Request, job_id: str, account_id: str, warnings: list[dict[str, str]]
) -> AsyncIterator[bytes]:
    """Yield comments until a job has ended, and then its result as the one event of the stream."""
    await release_body(http)
    feed: LiveFeed = http.app.state.live_feed
    yield b": the film is being made\n\n"
    clock = asyncio.get_running_loop().time
    deadline = clock() + STREAM_SECONDS_MAX
    while not await wait_for_end(feed, job_id, account_id=account_id, seconds=HEARTBEAT_SECONDS):
        if feed.is_closing:
            # The client calls again, and is answered with the same film.
            yield _event(_error("This process ends; call again.", "internal_server_error", 503))
            return
        if clock() >= deadline:
            yield _event(_error(f"{job_id} takes longer than a call may; ask for it with `poll`.", FAILED_TYPE, 424))
            return
        yield b": alive\n\n"
    content, film = await read_in_turn(account_id, _result, job_id, warnings)
    if film is None:
        yield _event(content)
        return
    try:
        entry = await asyncio.to_thread(find_film, film)
    except AppError as error:
        yield _event(_error(error.message, type_of(error.code), status_of(error.code), job_id))
        return
    yield b"data: "
    async for piece in with_film(content, entry):
        yield piece
    yield b"\n\n"


def _result(job_id: str, warnings: list[dict[str, str]]) -> tuple[dict[str, Any], Film | None]:
    """Return the event that ends a call, and its film: that of an ended job, or why it has none."""
    with transaction() as session:
        job = session.get(Job, job_id)
        if job is None or job.deleted_at is not None or job.files_removed_at is not None:
            return _error("The video was deleted.", type_of("gone"), status_of("gone"), job_id), None
        # A cancelled job may have a film of what was rendered before.
        if job.film_key is None:
            return _error(failure_of(job), FAILED_TYPE, FAILED_STATUS, job_id), None
        account_id, film_key, link = job.account_id, str(job.film_key), make_link(session, job)
        metadata = to_metadata(job, receipt_of(session, job))
    content = {"type": "result", "warnings": warnings, "providerMetadata": metadata}
    return content, Film(account_id, film_key, link)


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
    return {
        "operation": {"id": job.id},
        "warnings": call.warnings,
        "providerMetadata": to_metadata(job, receipt_of(session, job)),
    }


_STATUS_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "title": "VideoOperation",
                    "type": "object",
                    "required": ["operation"],
                    "properties": {"operation": {"type": "object", "properties": {"id": {"type": "string"}}}},
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
    job = find_job(session, caller, job_id)
    receipt: ReceiptRow | None = receipt_of(session, job)
    if job.film_key is None:
        return to_status(job, receipt)
    if job.files_removed_at is not None:
        raise AppError("gone", "The files of this video were removed when their retention ended.")
    film = Film(job.account_id, job.film_key, make_link(session, job))
    status = to_status(job, receipt)
    commit_early(session)
    return InlineFilmResponse(film.account_id, status, find_film(film))


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
