"""Write down what became of attempts: the log, the state of their deliveries, and how their endpoints are doing."""

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

# A lease that was lost can change nothing, except that what was delivered is delivered.
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
    """One attempt that was made: the parcel, when it set out (database time is not asked for that), and the answer."""

    parcel: DeliveryRequest
    started_at: datetime
    answer: PostResult


def record_attempt(session: Session, sent: Sequence[AttemptResult]) -> None:
    """Write the outcome of attempts in one transaction. A failed delivery gets its next date, or its end."""
    moment = now(session)
    judged = [
        (one, classify_response(one.answer, moment)) for one in sorted(sent, key=lambda one: one.parcel.delivery_id)
    ]
    endpoints = _lock_affected(session, judged)
    session.execute(insert(Attempt), [_attempt(one, verdict) for one, verdict in judged])
    _settle(session, [_settlement(one, verdict, moment) for one, verdict in judged], moment)
    for one, verdict in judged:
        endpoint = endpoints.get(one.parcel.endpoint_id)
        # A failed test says nothing about an endpoint in service; one that succeeds says that it is well.
        if endpoint is not None and (one.parcel.trigger != Trigger.TEST or verdict.decision == "delivered"):
            record_outcome(session, endpoint, verdict)
            if verdict.decision == "gone" and endpoint.kind == EndpointKind.CALLBACK:
                abandon_waiting(session, endpoint, url=one.parcel.url)
    for _, verdict in judged:
        after_commit(session, ATTEMPTS.labels(verdict.decision).inc)
    session.flush()


def record_attempt_without_session(session: Session, one: AttemptResult) -> None:
    """Settle a delivery whose attempt cannot be written in full: by its status alone, without a line in the log.

    Whatever about an answer breaks the writing of it must not be asked for again and again: an attempt is spent.
    """
    moment = now(session)
    arrived = one.answer.status is not None and 200 <= one.answer.status < 300
    row = _settlement(one, Classification("delivered" if arrived else "retry", False, None), moment)
    _settle(session, [row], moment)


def _settle(session: Session, rows: Sequence[tuple[Any, ...]], moment: datetime) -> None:
    columns = ("ids", "leases", "states", "spent", "nexts", "statuses", "reasons")
    session.execute(_SETTLE, dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True)) | {"now": moment})


def _lock_affected(session: Session, judged: Sequence[tuple[AttemptResult, Classification]]) -> dict[str, Endpoint]:
    """Lock the endpoints whose record changes: those that failed now and those that recover; healthy ones stay free."""
    failed = {one.parcel.endpoint_id for one, verdict in judged if verdict.decision != "delivered"}
    served = {one.parcel.endpoint_id for one, _ in judged} - failed
    unwell = session.scalars(
        select(Endpoint.id).where(
            Endpoint.id.in_(served), or_(Endpoint.failing_since.is_not(None), Endpoint.failures_in_row > 0)
        )
    )
    affected = failed | set(unwell)
    return lock_endpoints(session, affected) if affected else {}


def _settlement(one: AttemptResult, verdict: Classification, moment: datetime) -> tuple[Any, ...]:
    """Return the row of _SETTLE: id, lease, state, attempts spent, next date, status, reason of the end."""
    state, spent, next_at, reason = DeliveryState.PENDING, 1, None, None
    if verdict.decision == "delivered":
        state = DeliveryState.DELIVERED
    elif one.parcel.trigger == Trigger.TEST:
        state, reason = DeliveryState.ABANDONED, "test_failed"
    elif verdict.decision == "gone":
        state, reason = DeliveryState.ABANDONED, "gone"
    elif verdict.decision == "blocked":
        state, reason = DeliveryState.ABANDONED, "unreachable"
    elif verdict.decision == "defer" and moment - one.parcel.created_at < OUR_FAULT_MAX:
        spent, next_at = 0, moment + OUR_FAULT_DELAY
    else:
        delay = delay_before_next(one.parcel.attempts + 1, one.answer, verdict)
        if delay is None:
            state, reason = DeliveryState.EXHAUSTED, "attempts_spent"
        else:
            next_at = moment + delay
    return one.parcel.delivery_id, one.parcel.lease, state, spent, next_at, one.answer.status, reason


def _attempt(one: AttemptResult, verdict: Classification) -> dict[str, Any]:
    answer, times = one.answer, one.answer.timings
    return {
        "id": new_id("wha"),
        "delivery_id": one.parcel.delivery_id,
        "trigger": one.parcel.trigger,
        "started_at": one.started_at,
        "status": answer.status,
        "fault": answer.fault,
        "detail": _printable(answer.detail),
        "ip": answer.ip,
        "dns_ms": times.dns_ms,
        "connect_ms": times.connect_ms,
        "tls_ms": times.tls_ms,
        "ttfb_ms": times.ttfb_ms,
        "total_ms": times.total_ms,
        "retry_after_seconds": int(verdict.retry_after.total_seconds()) if verdict.retry_after else None,
        "excerpt": excerpt(answer),
    }


def excerpt(answer: PostResult) -> str:
    """Return the start of an answer's body as text that any database and page can hold; nothing is decompressed."""
    encoding = answer.headers.get("content-encoding", "identity")
    if encoding != "identity":
        return f"[{len(answer.body)} bytes of {_printable(encoding)[:32]}, not opened]"
    return _printable(answer.body[:EXCERPT_BYTES_MAX].decode("utf-8", "replace"))


def _printable(value: str) -> str:
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\U0010ffff]", "\ufffd", value)
