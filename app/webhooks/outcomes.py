"""Record the outcomes of attempts: the log, the state of their deliveries, and the health of their endpoints."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import insert, or_, select, text
from sqlalchemy.orm import Session

from app.clock import now
from app.db import after_commit, new_id
from app.metrics import ATTEMPTS
from app.net import PostResult
from app.webhooks.claim import DeliveryRequest
from app.webhooks.health import abandon_waiting, lock_endpoints, record_outcome
from app.webhooks.schedule import OUR_FAULT_DELAY, OUR_FAULT_MAX, Classification, classify_response, delay_before_next
from app.webhooks.tables import Attempt, DeliveryState, Endpoint, EndpointKind, Trigger

EXCERPT_BYTES_MAX = 4_096

# A lost lease can change nothing, except that a delivered delivery counts as delivered.
_SETTLE = text("""
    UPDATE webhook_deliveries AS delivery
    SET state = report.state,
        attempts = delivery.attempts + report.spent,
        next_attempt_at = report.next_attempt_at,
        lease = NULL,
        last_status = coalesce(report.status, delivery.last_status),
        ended_at = CASE WHEN report.state = 'pending' THEN NULL ELSE CAST(:now AS timestamptz) END,
        ended_reason = report.reason
    FROM unnest(
        CAST(:ids AS text[]), CAST(:leases AS text[]), CAST(:states AS text[]), CAST(:spent AS int[]),
        CAST(:nexts AS timestamptz[]), CAST(:statuses AS int[]), CAST(:reasons AS text[])
    ) AS report (id, lease, state, spent, next_attempt_at, status, reason)
    WHERE delivery.id = report.id AND delivery.state = 'pending'
      AND (delivery.lease = report.lease OR report.state = 'delivered')
""")


@dataclass(frozen=True)
class AttemptResult:
    """One attempt: the request, its start by this machine's clock, and the answer."""

    request: DeliveryRequest
    started_at: datetime
    answer: PostResult


def record_attempt(session: Session, results: Sequence[AttemptResult]) -> None:
    """Record the outcomes of attempts in one transaction. A failed delivery is rescheduled or ends."""
    moment = now(session)
    classified = [
        (result, classify_response(result.answer, moment))
        for result in sorted(results, key=lambda result: result.request.delivery_id)
    ]
    endpoints = _lock_affected(session, classified)
    session.execute(insert(Attempt), [_attempt(result, outcome) for result, outcome in classified])
    _settle(session, [_settlement(result, outcome, moment) for result, outcome in classified], moment)
    for result, outcome in classified:
        endpoint = endpoints.get(result.request.endpoint_id)
        # A failed test does not count against an endpoint; one that succeeds proves that it is healthy.
        if endpoint is not None and (result.request.trigger != Trigger.TEST or outcome.decision == "delivered"):
            record_outcome(session, endpoint, outcome)
            if outcome.decision == "gone" and endpoint.kind == EndpointKind.CALLBACK:
                abandon_waiting(session, endpoint, url=result.request.url)
    for _, outcome in classified:
        after_commit(session, ATTEMPTS.labels(outcome.decision).inc)
    session.flush()


def record_attempt_status(session: Session, result: AttemptResult) -> None:
    """Settle a delivery whose attempt cannot be recorded in full: by its status alone, without a row in the log.

    An answer that cannot be written must not be requested for ever: the attempt is spent.
    """
    moment = now(session)
    arrived = result.answer.status is not None and 200 <= result.answer.status < 300
    row = _settlement(result, Classification("delivered" if arrived else "retry", False, None), moment)
    _settle(session, [row], moment)


def _settle(session: Session, rows: Sequence[tuple[Any, ...]], moment: datetime) -> None:
    columns = ("ids", "leases", "states", "spent", "nexts", "statuses", "reasons")
    session.execute(_SETTLE, dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True)) | {"now": moment})


def _lock_affected(session: Session, classified: Sequence[tuple[AttemptResult, Classification]]) -> dict[str, Endpoint]:
    """Lock the endpoints whose health changes: those that fail now and those that recover, not the healthy ones."""
    failed = {result.request.endpoint_id for result, outcome in classified if outcome.decision != "delivered"}
    served = {result.request.endpoint_id for result, _ in classified} - failed
    recovering = session.scalars(
        select(Endpoint.id).where(
            Endpoint.id.in_(served), or_(Endpoint.failing_since.is_not(None), Endpoint.failures_in_row > 0)
        )
    )
    affected = failed | set(recovering)
    return lock_endpoints(session, affected) if affected else {}


def _settlement(result: AttemptResult, outcome: Classification, moment: datetime) -> tuple[Any, ...]:
    """Return the row of _SETTLE: id, lease, state, attempts spent, next attempt, status, reason of the end."""
    state, spent, next_at, reason = DeliveryState.PENDING, 1, None, None
    if outcome.decision == "delivered":
        state = DeliveryState.DELIVERED
    elif result.request.trigger == Trigger.TEST:
        state, reason = DeliveryState.ABANDONED, "test_failed"
    elif outcome.decision == "gone":
        state, reason = DeliveryState.ABANDONED, "gone"
    elif outcome.decision == "blocked":
        state, reason = DeliveryState.ABANDONED, "unreachable"
    elif outcome.decision == "defer" and moment - result.request.created_at < OUR_FAULT_MAX:
        spent, next_at = 0, moment + OUR_FAULT_DELAY
    else:
        delay = delay_before_next(result.request.attempts + 1, result.answer, outcome)
        if delay is None:
            state, reason = DeliveryState.EXHAUSTED, "attempts_spent"
        else:
            next_at = moment + delay
    return result.request.delivery_id, result.request.lease, state, spent, next_at, result.answer.status, reason


def _attempt(result: AttemptResult, outcome: Classification) -> dict[str, Any]:
    answer, times = result.answer, result.answer.timings
    return {
        "id": new_id("wha"),
        "delivery_id": result.request.delivery_id,
        "trigger": result.request.trigger,
        "started_at": result.started_at,
        "status": answer.status,
        "fault": answer.fault,
        "detail": _printable(answer.detail),
        "ip": answer.ip,
        "dns_ms": times.dns_ms,
        "connect_ms": times.connect_ms,
        "tls_ms": times.tls_ms,
        "ttfb_ms": times.ttfb_ms,
        "total_ms": times.total_ms,
        "retry_after_seconds": int(outcome.retry_after.total_seconds()) if outcome.retry_after else None,
        "excerpt": excerpt(answer),
    }


def excerpt(answer: PostResult) -> str:
    """Return the start of an answer's body as printable text; nothing is decompressed."""
    encoding = answer.headers.get("content-encoding", "identity")
    if encoding != "identity":
        return f"[{len(answer.body)} bytes of {_printable(encoding)[:32]}, not opened]"
    return _printable(answer.body[:EXCERPT_BYTES_MAX].decode("utf-8", "replace"))


def _printable(value: str) -> str:
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\U0010ffff]", "\ufffd", value)
