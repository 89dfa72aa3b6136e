"""Submit an order from any interface: count it, return an earlier job if it is a repeat, then ingest its inputs."""

from collections.abc import Callable
from dataclasses import replace

from fastapi import Request
from sqlalchemy.orm import Session

from app.accounts.caller import Caller, require_active
from app.api.idempotency import idempotency_key, is_first_try, is_retry
from app.jobs.idempotency import OrderIdentity, earlier_job
from app.jobs.rate_limits import count_job
from app.jobs.submit import submit
from app.jobs.tables import Job

Complete = Callable[[OrderIdentity], OrderIdentity]


def submit_order(
    http: Request, session: Session, caller: Caller, order: OrderIdentity, *, complete: Complete | None = None
) -> Job:
    """Submit an order with the request's headers: its idempotency key, whether it is a retry, and its trace.

    `complete` adds to the order what has to be fetched, read or copied. That is expensive, and a URL may no longer
    exist when a call is repeated, so it is skipped for repeated calls, and for callers over their limit or suspended.
    Raises AppError as `count_job`, `complete` and `submit` do.
    """
    count_job(http, session, caller)
    identity = replace(
        order,
        idempotency_key=idempotency_key(http),
        is_retry=order.is_retry or is_retry(http),
        is_first_try=is_first_try(http),
        traceparent=http.state.traceparent,
    )
    if complete is not None:
        earlier = earlier_job(session, caller, identity)
        if earlier is not None:
            return earlier
        require_active(caller)
        identity = complete(identity)
    return submit(session, caller, identity)
