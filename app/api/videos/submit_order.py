"""Submit an order from any interface: count it, return an earlier job if it is a repeat, then ingest its inputs.

`receive_order` comes first, and nothing that has to be fetched, read or copied comes before `repeated_job`: that is
expensive, and a URL may no longer exist when a call is repeated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from fastapi import Request
from sqlalchemy.orm import Session
from starlette.datastructures import UploadFile

from app.accounts.caller import Caller, require_active
from app.api.idempotency import idempotency_key, is_first_try, is_retry
from app.api.model_headers import announce_model
from app.api.spend_headers import order_headers, refusal_headers
from app.api.videos.inputs import has_inputs, ingest_inputs
from app.assets.tables import Asset
from app.errors import AppError
from app.jobs.check_order import check_order
from app.jobs.groups import jobs_of
from app.jobs.idempotency import OrderIdentity, earlier_job
from app.jobs.rate_limits import count_call
from app.jobs.schemas import VideoRequest
from app.jobs.submit import submit
from app.jobs.tables import Job
from app.wallet.committed_spend import remembered_spends

NO_FILES: Mapping[str, UploadFile] = MappingProxyType({})


def submit_order(
    http: Request,
    session: Session,
    caller: Caller,
    order: OrderIdentity,
    files: Mapping[str, UploadFile] = NO_FILES,
) -> Job:
    """Submit an order as it was called, with its uploaded files by field, and return its job.

    Its words are checked before its files are read. Raises AppError as `receive_order`, `check_order`, `ingest_inputs`
    and `submit` do.
    """
    order = receive_order(http, session, caller, order)
    order = check_order(session, caller, order, has_files=bool(files.keys() - {"audio"}))
    if not has_inputs(order.request, files) and order.request.declaration is None:
        return submit_received(http, session, caller, order)
    job = repeated_job(session, caller, order)
    if job is None:
        return submit_received(http, session, caller, with_inputs(session, caller, order, files))
    announce_model(http, job.model)
    return job


def submit_received(http: Request, session: Session, caller: Caller, order: OrderIdentity) -> Job:
    """Submit an order that `receive_order` has returned; put its cost and its model's end into the answer's headers.

    Raises AppError as `check_order` and `submit` do.
    """
    order = check_order(session, caller, order)
    try:
        job = submit(session, caller, order)
    except AppError as error:
        http.state.refusal_headers = refusal_headers(error, caller)
        raise
    announce_model(http, job.model)
    spends = remembered_spends(session, job.id)
    if spends is not None:
        jobs = [job] if job.group_id is None else jobs_of(session, job.group_id)
        total = sum(each.total for each in jobs)
        http.state.spend_headers = order_headers(job, total, spends.visible_to(caller))
    return job


def receive_order(http: Request, session: Session, caller: Caller, order: OrderIdentity) -> OrderIdentity:
    """Count an order, and return it with what its headers say: its idempotency key, whether it is a retry, its trace.

    Raises AppError as `count_call` does.
    """
    order = replace(
        order,
        idempotency_key=idempotency_key(http),
        is_retry=order.is_retry or is_retry(http),
        is_first_try=is_first_try(http),
        traceparent=http.state.traceparent,
    )
    count_call(http, session, caller, order)
    return order


def repeated_job(session: Session, caller: Caller, order: OrderIdentity) -> Job | None:
    """Return the job that an earlier, identical call created, or None for a new order that its caller may make.

    Raises AppError as `earlier_job` does, and `account_suspended`.
    """
    job = earlier_job(session, caller, order)
    if job is None:
        require_active(caller)
    return job


def with_inputs(
    session: Session, caller: Caller, order: OrderIdentity, files: Mapping[str, UploadFile] = NO_FILES
) -> OrderIdentity:
    """Return an order whose input files have become assets of the account, and were checked.

    Raises AppError as `ingest_inputs` and `check_order` do.
    """
    checked = order

    def check(request: VideoRequest, new_files: Sequence[Asset]) -> None:
        nonlocal checked
        checked = check_order(session, caller, replace(order, request=request), new_files=new_files)

    ingest_inputs(session, caller, order.request, files, check=check)
    return checked
