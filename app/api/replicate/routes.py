"""Routes of the Replicate interface: predictions, made, listed, read and cancelled."""

import re
from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import JSONResponse
from sqlalchemy import Connection
from sqlalchemy.orm import Session
from starlette.types import Receive, Scope, Send

from app.accounts.caller import Caller
from app.accounts.key_holder import KeyHolder, holder_of
from app.api.access import VideosCaller, answers_poll, require_key
from app.api.caller_fields import caller_field_names
from app.api.interface import ApiInterface
from app.api.json_body import JsonBodyDep
from app.api.replicate import files, models
from app.api.replicate.errors import REFUSALS, error_response
from app.api.replicate.translate import PREDICTION_BODY, model_of, to_native, unknown_model
from app.api.request_body import release_body
from app.api.videos.groups import cancel_jobs
from app.api.videos.polling import poll_seconds
from app.api.videos.submit_order import submit_order
from app.api.videos.translate import Body
from app.api.videos.wait_for_end import wait_for_ends
from app.clock import local_now
from app.db import autocommit
from app.dispatch.poll import PolledJob, poll_job
from app.errors import AppError
from app.event_stream import stream_slot
from app.jobs.cancel import request_cancel
from app.jobs.find import find_job, list_jobs
from app.jobs.groups import find_group, is_group, jobs_of, present_jobs, read_group, state_of
from app.jobs.idempotency import OrderIdentity
from app.jobs.links import film_link_at
from app.jobs.live_feed import LiveFeed
from app.jobs.prediction import OWNER, PREFIX, to_group_prediction, to_prediction
from app.jobs.schemas import VideoRequest
from app.jobs.states import is_final
from app.jobs.tables import Job
from app.request_limits import RequestLimits, WorkKind, request_limits
from app.request_session import SessionDep, read_in_turn
from app.roles import Scope as KeyScope
from app.settings import get_settings

# How long a call waits at most, and where it names no time.
WAIT_SECONDS_MAX = 60
PAGE_LENGTH = 20
router = APIRouter(prefix=PREFIX, tags=["replicate"], responses=REFUSALS)

Prefer = Annotated[
    str, Header(max_length=200, description="`wait` or `wait=N`: answer at the end, or after N seconds.")
]
CancelAfter = Annotated[
    str | None, Header(max_length=20, description="Such as 30s or 5m: a film not finished by then is cancelled.")
]


def make_interface() -> ApiInterface:
    """Return the Replicate interface."""
    return ApiInterface(
        prefix=f"{PREFIX}/",
        routers=(router, files.router, models.router),
        error_response=error_response,
        authorize=require_key,
    )


class AwaitedPrediction(JSONResponse):
    """A prediction that is sent when it has ended, or after some seconds, as it is then.

    It waits once the request's session has ended. It is sent at once when too many calls wait.
    """

    def __init__(
        self, http: Request, holder: KeyHolder, content: dict[str, Any], job_ids: list[str], seconds: int
    ) -> None:
        super().__init__(content, status_code=201)
        self._http, self._holder, self._job_ids, self._seconds = http, holder, job_ids, seconds
        self._id: str = content["id"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        feed: LiveFeed = self._http.app.state.live_feed
        account_id = self._holder.account_id
        await release_body(self._http)
        # The film is ordered: where this cannot wait, the answer is the prediction as it was. An error would name none.
        with suppress(AppError), stream_slot(account_id):
            if await wait_for_ends(feed, self._job_ids, account_id=account_id, seconds=self._seconds):
                prediction = await read_in_turn(account_id, _read_prediction, self._holder, self._id)
                self.body = self.render(prediction)
                self.init_headers()
        await super().__call__(scope, receive, send)


def _read_prediction(holder: KeyHolder, prediction_id: str) -> dict[str, Any]:
    with autocommit() as connection:
        if is_group(prediction_id):
            return _shown_together(read_group(connection, holder, prediction_id))
        return _shown(poll_job(connection, holder, prediction_id).row)


def _shown(row: Any, ignored: list[str] | None = None) -> dict[str, Any]:
    return to_prediction(row, film_link_at(local_now(), row), ignored)


def _shown_together(jobs: list[Job], ignored: list[str] | None = None) -> dict[str, Any]:
    moment = local_now()
    urls = [url for job in jobs if (url := film_link_at(moment, job)) is not None]
    return to_group_prediction(jobs, state_of(jobs), urls, ignored)


def _create(
    http: Request, session: Session, caller: Caller, body: Body, model_id: str, prefer: str, cancel_after: str | None
) -> Response:
    prediction = to_native(model_id, body.values, cancel_after)
    with caller_field_names(prediction.names):
        order = OrderIdentity(
            request=VideoRequest.model_validate(prediction.values),
            door="replicate",
            fingerprint=body.fingerprint,
            callback_events=prediction.callback_events,
            cancel_after=prediction.cancel_after,
        )
        job = submit_order(http, session, caller, order)
    jobs = [job] if job.group_id is None else jobs_of(session, job.group_id)
    content = _shown(job, prediction.ignored) if len(jobs) == 1 else _shown_together(jobs, prediction.ignored)
    seconds = _wait_seconds(prefer)
    if seconds is None or all(is_final(each.state) for each in jobs):
        return JSONResponse(content, status_code=201)
    # Its clients take an answer with any other status for the end of the prediction.
    job_ids = [each.id for each in jobs]
    return AwaitedPrediction(http, holder_of(caller), {**content, "status": "starting"}, job_ids, seconds)


def _wait_seconds(prefer: str) -> int | None:
    """Return for how long a call waits for its film, or None where it does not."""
    match = re.search(r"(?:^|[,;\s])wait(?:=(\d{1,4}))?(?:$|[,;\s])", prefer.lower())
    if match is None:
        return None
    return min(int(match[1]) if match[1] else WAIT_SECONDS_MAX, WAIT_SECONDS_MAX)


@router.post("/predictions", openapi_extra=PREDICTION_BODY, status_code=201, response_model=dict[str, Any])
@request_limits(RequestLimits(work=WorkKind.ORDER, data_urls=True))
def create_prediction(
    http: Request,
    session: SessionDep,
    caller: VideosCaller,
    body: JsonBodyDep,
    prefer: Prefer = "",
    cancel_after: CancelAfter = None,
) -> Response:
    """Order a film of the model that `version` names. It is a job like any other, at the same price."""
    return _create(http, session, caller, body, model_of(body.values.get("version")), prefer, cancel_after)


@router.post(
    "/models/{owner}/{model_id}/predictions",
    openapi_extra=PREDICTION_BODY,
    status_code=201,
    response_model=dict[str, Any],
)
@request_limits(RequestLimits(work=WorkKind.ORDER, data_urls=True))
def create_model_prediction(
    http: Request,
    session: SessionDep,
    caller: VideosCaller,
    body: JsonBodyDep,
    owner: str,
    model_id: str,
    prefer: Prefer = "",
    cancel_after: CancelAfter = None,
) -> Response:
    """Order a film of a model. With `Prefer: wait` the answer comes when it is made, at the latest after a minute."""
    if owner != OWNER:
        raise unknown_model(f"{owner}/{model_id}")
    return _create(http, session, caller, body, model_id, prefer, cancel_after)


def _answer_poll(http: Request, connection: Connection, holder: KeyHolder) -> Response:
    prediction_id = http.path_params["prediction_id"]
    if is_group(prediction_id):
        jobs = read_group(connection, holder, prediction_id)
        unfinished = next((job for job in jobs if not is_final(job.state)), None)
        polled = None if unfinished is None else poll_job(connection, holder, unfinished.id)
        return JSONResponse(_shown_together(jobs), headers=_poll_headers(polled))
    polled = poll_job(connection, holder, prediction_id)
    return JSONResponse(_shown(polled.row), headers=_poll_headers(polled))


def _poll_headers(polled: PolledJob | None) -> dict[str, str]:
    """Return the header that says when to ask again, of a group by its first film that has not ended."""
    seconds = None if polled is None else poll_seconds(polled.row.state, polled.outlook.eta())
    return {} if seconds is None else {"retry-after": str(seconds)}


@router.get("/predictions/{prediction_id}", response_model=dict[str, Any])
async def get_prediction(
    prediction_id: str, answer: Annotated[Response, Depends(answers_poll(KeyScope.VIDEOS, _answer_poll))]
) -> Response:
    """Return a prediction in its current state. `logs` ends with its progress."""
    return answer


@router.post("/predictions/{prediction_id}/cancel")
def cancel_prediction(session: SessionDep, caller: VideosCaller, prediction_id: str) -> dict[str, Any]:
    """Cancel a prediction. What was already rendered is delivered and charged; one that has ended stays as it is."""
    if is_group(prediction_id):
        cancel_jobs(session, caller, prediction_id)
        return _shown_together(present_jobs(session, find_group(session, caller, prediction_id)))
    job = find_job(session, caller, prediction_id, lock=True)
    return _shown(job if is_final(job.state) else request_cancel(session, job))


@router.get("/predictions")
def list_predictions(
    session: SessionDep, caller: VideosCaller, cursor: Annotated[str | None, Query(max_length=64)] = None
) -> dict[str, Any]:
    """List the caller's predictions, newest first; `next` is the URL of the next page."""
    jobs, has_more = list_jobs(session, caller, after=cursor, limit=PAGE_LENGTH)
    address = f"{get_settings().base_url()}{PREFIX}/predictions?cursor={jobs[-1].id if jobs else ''}"
    return {"previous": None, "next": address if has_more else None, "results": [_shown(job) for job in jobs]}
