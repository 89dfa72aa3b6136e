"""Routes of the DashScope interface: submit, get, list and cancel video tasks."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import JSONResponse
from sqlalchemy import Connection, Select, func, select

from app.accounts.caller import Caller
from app.accounts.key_holder import KeyHolder
from app.api.access import VideosCaller, answers_poll, require_key
from app.api.caller_fields import caller_field_names
from app.api.dashscope import uploads
from app.api.dashscope.errors import ErrorOut, error_response
from app.api.dashscope.group_tasks import to_group_output, to_group_usage
from app.api.dashscope.translate import (
    CHINA,
    STATES_OF_STATUS,
    TASK_BODY,
    to_native,
    to_output,
    to_usage,
)
from app.api.handling import Handling, HandlingDep
from app.api.interface import ApiInterface
from app.api.problems import media_type, wrong_type
from app.api.text_validation import parse_json_object, parse_large
from app.api.videos.groups import cancel_jobs
from app.api.videos.polling import poll_seconds
from app.api.videos.submit_order import submit_order
from app.clock import local_now, now
from app.dispatch.poll import poll_job
from app.errors import AppError
from app.jobs.cancel import request_cancel
from app.jobs.find import find_job
from app.jobs.groups import find_group, is_group, jobs_of, present_jobs, read_group
from app.jobs.idempotency import OrderIdentity, body_fingerprint
from app.jobs.links import film_link_at
from app.jobs.model_life import has_model
from app.jobs.schemas import VideoRequest
from app.jobs.tables import Job
from app.request_limits import RequestLimits, WorkKind, request_limits
from app.request_session import SessionDep
from app.roles import Scope

PREFIX = "/api/v1"
router = APIRouter(
    prefix=PREFIX,
    tags=["dashscope"],
    responses={status: {"model": ErrorOut} for status in (400, 401, 403, 404, 405, 408, 413, 415, 429, 503)},
)


def make_interface() -> ApiInterface:
    """Return the DashScope interface."""
    return ApiInterface(
        prefix=f"{PREFIX}/",
        routers=(router, uploads.router),
        error_response=error_response,
        authorize=require_key,
    )


_TIME_FORMAT = "%Y%m%d%H%M%S"


async def read_values(request: Request) -> tuple[dict[str, Any], bytes]:
    """Return the JSON body of a task and its bytes. Raises AppError `unsupported_media_type` and `invalid_json`."""
    if media_type(request) != "application/json":
        raise wrong_type(request, ["application/json"])
    raw = await request.body()
    return await parse_large(parse_json_object, raw), raw


BodyDep = Annotated[tuple[dict[str, Any], bytes], Depends(read_values)]


@router.post(
    "/services/aigc/video-generation/video-synthesis",
    openapi_extra=TASK_BODY,
    operation_id="create_video_generation_task",
)
@router.post(
    "/services/aigc/image2video/video-synthesis", openapi_extra=TASK_BODY, operation_id="create_image_to_video_task"
)
@request_limits(RequestLimits(work=WorkKind.ORDER, data_urls=True))
def create_task(
    http: Request,
    session: SessionDep,
    caller: VideosCaller,
    body: BodyDep,
    handling: HandlingDep,
    x_dashscope_async: Annotated[str, Header()] = "",
) -> dict[str, Any]:
    """Submit a video task. It becomes a job like any other, with the same price and visible at every interface.

    With `n` it is one task of several jobs, each with its entry in `results`.
    """
    if x_dashscope_async.lower() != "enable":
        message = "current user api does not support synchronous calls; send X-DashScope-Async: enable"
        raise AppError("forbidden", message, field="X-DashScope-Async")
    values, raw = body
    task = to_native(values, is_strict=handling is Handling.STRICT)
    with caller_field_names(task.names):
        order = OrderIdentity(
            request=VideoRequest.model_validate(task.values),
            door="dashscope",
            warnings=tuple(task.warnings),
            fingerprint=body_fingerprint(http.method, http.url.path, raw),
        )
        job = submit_order(http, session, caller, order)
    if job.group_id is not None:
        return _group_task(http, now(session), jobs_of(session, job.group_id))
    return _task(http, now(session), job)


def _answer_poll(http: Request, connection: Connection, holder: KeyHolder) -> Response:
    """Return the answer to a poll of a task."""
    task_id = http.path_params["task_id"]
    try:
        if is_group(task_id):
            return JSONResponse(_group_task(http, local_now(), read_group(connection, holder, task_id)))
        polled = poll_job(connection, holder, task_id)
    except AppError as error:
        if error.code != "not_found":
            raise
        output = {"task_id": task_id, "task_status": "UNKNOWN"}
        return JSONResponse({"request_id": http.state.request_id, "output": output})
    seconds = poll_seconds(polled.row.state, polled.outlook.eta())
    headers = {} if seconds is None else {"retry-after": str(seconds)}
    return JSONResponse(_task(http, local_now(), polled.row), headers=headers)


@router.get("/tasks/{task_id}", response_model=dict[str, Any])
async def get_task(
    task_id: str, answer: Annotated[Response, Depends(answers_poll(Scope.VIDEOS, _answer_poll))]
) -> Response:
    """Return a task. An unknown id, or another tenant's, is answered with 200 and UNKNOWN, as clients expect.

    `Retry-After` says when to ask again, in seconds.
    """
    return answer


@router.post("/tasks/{task_id}/cancel")
def cancel_task(http: Request, session: SessionDep, caller: VideosCaller, task_id: str) -> dict[str, Any]:
    """Cancel a task, even one that is running. What was already rendered is delivered and charged."""
    if is_group(task_id):
        cancelled, rest = cancel_jobs(session, caller, task_id)
        if not cancelled and rest:
            raise AppError(rest[0].code, rest[0].message)
        return _group_task(http, now(session), present_jobs(session, find_group(session, caller, task_id)))
    return _task(http, now(session), request_cancel(session, find_job(session, caller, task_id, lock=True)))


@router.get("/tasks")
def list_tasks(
    http: Request,
    session: SessionDep,
    caller: VideosCaller,
    page_no: Annotated[int, Query(ge=1, le=10_000)] = 1,
    page_size: Annotated[int, Query(ge=1, le=100)] = 10,
    start_time: Annotated[str | None, Query(max_length=14)] = None,
    end_time: Annotated[str | None, Query(max_length=14)] = None,
    model_name: Annotated[str | None, Query(max_length=64)] = None,
    api_key_id: Annotated[str | None, Query(max_length=64)] = None,
    region: Annotated[
        str | None, Query(max_length=64, description="Not supported: the service has no regions.")
    ] = None,
    status: Annotated[str | None, Query(max_length=16)] = None,
) -> dict[str, Any]:
    """List the caller's tasks, newest first, by page."""
    if region is not None:
        raise AppError("invalid_request", "region is not supported: the service has no regions.", field="region")
    query = _own_tasks(caller)
    if api_key_id is not None:
        query = query.where(Job.key_id == api_key_id)
    if start_time is not None:
        query = query.where(Job.created_at >= _read_time(start_time, "start_time"))
    if end_time is not None:
        query = query.where(Job.created_at <= _read_time(end_time, "end_time"))
    if model_name is not None:
        query = query.where(has_model(model_name))
    if status is not None:
        if status not in STATES_OF_STATUS:
            raise AppError("invalid_request", f"Unknown status: {status}.", field="status", allowed=[*STATES_OF_STATUS])
        query = query.where(Job.state.in_(STATES_OF_STATUS[status]))
    total = session.scalar(select(func.count()).select_from(query.subquery())) or 0
    page = query.order_by(Job.created_at.desc(), Job.id).limit(page_size).offset((page_no - 1) * page_size)
    tasks = [_listed(_task(http, now(session), job), job) for job in session.scalars(page)]
    return {
        "request_id": http.state.request_id,
        "page_no": page_no,
        "page_size": page_size,
        "total": total,
        "total_page": -(-total // page_size),
        # The 1.x and 2.x clients read different keys.
        "tasks": tasks,
        "data": tasks,
    }


def _listed(task: dict[str, Any], job: Job) -> dict[str, Any]:
    """Return a task in the list format, where its status has another name."""
    facts = {"status": task["output"]["task_status"], "model_name": job.model, "api_key_id": job.key_id}
    used = {"usage": task["usage"]} if "usage" in task else {}
    return {**task["output"], **facts, **used}


def _own_tasks(caller: Caller) -> Select[Job]:
    query = select(Job).where(Job.account_id == caller.account_id, Job.test == caller.test, Job.deleted_at.is_(None))
    return query if caller.project_id is None else query.where(Job.project_id == caller.project_id)


def _task(http: Request, moment: datetime, job: Job) -> dict[str, Any]:
    answer = {"request_id": http.state.request_id, "output": to_output(job, film_link_at(moment, job))}
    usage = to_usage(job)
    return answer if usage is None else {**answer, "usage": usage}


def _group_task(http: Request, moment: datetime, jobs: list[Job]) -> dict[str, Any]:
    output = to_group_output(jobs, [film_link_at(moment, job) for job in jobs])
    answer = {"request_id": http.state.request_id, "output": output}
    usage = to_group_usage(jobs)
    return answer if usage is None else {**answer, "usage": usage}


def _read_time(text: str, field: str) -> datetime:
    """Parse a time written as 20260420000000, in China time."""
    try:
        return datetime.strptime(text, _TIME_FORMAT).replace(tzinfo=CHINA).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        message = f"{field} must have the format YYYYMMDDhhmmss."
        raise AppError("invalid_request", message, field=field, allowed="YYYYMMDDhhmmss") from error
