"""Take an order at any door: counted, answered with the film it already made, and only then given its inputs."""

from collections.abc import Callable
from dataclasses import replace

from fastapi import Request
from sqlalchemy.orm import Session

from app.accounts.caller import Caller, require_active
from app.api.idempotency import idempotency_key, is_retry
from app.api.rate_limits import count_job
from app.jobs.idempotency import OrderIdentity, earlier_job
from app.jobs.submit import submit
from app.jobs.tables import Job

Complete = Callable[[OrderIdentity], OrderIdentity]


def submit_order(
    http: Request, session: Session, caller: Caller, order: OrderIdentity, *, complete: Complete | None = None
) -> Job:
    """Submit an order as the call's headers say: its idempotency key, whether it is a retry, and its trace.

    `complete` gives the order what has to be fetched, read or copied for it. That costs us something, and what an
    address names may have gone since, so it is not done for a call that is repeated, comes too often, or may not order.
    Raises AppError as `count_job`, `complete` and `submit` do.
    """
    count_job(http, session, caller)
    called = replace(
        order, idempotency_key=idempotency_key(http), is_retry=is_retry(http), traceparent=http.state.traceparent
    )
    if complete is not None:
        earlier = earlier_job(session, caller, called)
        if earlier is not None:
            return earlier
        require_active(caller)
        called = complete(called)
    return submit(session, caller, called)
