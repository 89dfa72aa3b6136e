"""Claim due deliveries under a lease, one claim at a time for all couriers.

A claim moves `next_attempt_at` ahead by the lease. A courier that dies never reports, and the deliveries it had claimed
become due again. The claims of all couriers are serialised by one lock, so that the limits of an endpoint hold for all
couriers together; each claim is a few indexed statements and never waits for the network. It does not wait for another
transaction either: that process may be frozen. A courier that finds the lock taken, or an endpoint locked, tries again
at its next poll.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, func, select, text
from sqlalchemy.orm import Session

from app.clock import now
from app.events.tables import Event
from app.trace import trace_id_of
from app.webhooks.health import abandon_waiting, lock_endpoints
from app.webhooks.limits import EndpointLane, allocate, paced_until
from app.webhooks.secret import active_secrets, owner_of
from app.webhooks.tables import Delivery, Endpoint, EndpointKind

# Enough to fill any endpoint's limit; counting further would cost time on a long backlog.
_DUE_COUNTED = 100

_CLAIM_LOCK = text("SELECT pg_try_advisory_xact_lock(hashtextextended('cinemeter.webhooks.claim', 0))")

# One index probe per endpoint, however long its backlog is (a loose index scan).
_WAITING = text("""
    WITH RECURSIVE waiting AS (
        (SELECT endpoint_id FROM webhook_deliveries WHERE state = 'pending' ORDER BY endpoint_id LIMIT 1)
        UNION ALL
        SELECT (
            SELECT next.endpoint_id FROM webhook_deliveries AS next
            WHERE next.state = 'pending' AND next.endpoint_id > waiting.endpoint_id
            ORDER BY next.endpoint_id LIMIT 1
        )
        FROM waiting WHERE waiting.endpoint_id IS NOT NULL
    ), in_flight AS (
        SELECT endpoint_id, count(*) AS count FROM webhook_deliveries
        WHERE lease IS NOT NULL AND next_attempt_at > :now
        GROUP BY endpoint_id
    )
    SELECT endpoint.id AS endpoint_id, endpoint.account_id, due.count AS due,
        coalesce(in_flight.count, 0) AS in_flight, endpoint.max_in_flight, endpoint.rate_per_second,
        endpoint.paced_until, endpoint.failures_in_row, endpoint.deferred_until,
        endpoint.disabled_at IS NULL AND endpoint.deleted_at IS NULL AS is_open
    FROM waiting
    CROSS JOIN LATERAL (
        SELECT count(*), min(first.next_attempt_at) AS oldest FROM (
            SELECT next_attempt_at FROM webhook_deliveries
            WHERE endpoint_id = waiting.endpoint_id AND state = 'pending' AND next_attempt_at <= :now
            ORDER BY next_attempt_at LIMIT :counted
        ) AS first
    ) AS due
    JOIN webhook_endpoints AS endpoint ON endpoint.id = waiting.endpoint_id
    LEFT JOIN in_flight ON in_flight.endpoint_id = endpoint.id
    WHERE due.count > 0
    ORDER BY due.oldest
""")

# Endpoints before deliveries, by id: the order in which every transaction of webhooks takes its locks.
_PACE = text("""
    WITH allocated AS (
        SELECT * FROM unnest(CAST(:endpoints AS text[]), CAST(:paced AS timestamptz[])) AS allocated (id, paced_until)
    ), locked AS (
        SELECT id FROM webhook_endpoints WHERE id = ANY (CAST(:endpoints AS text[])) ORDER BY id
        FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE webhook_endpoints AS endpoint SET paced_until = allocated.paced_until
    FROM allocated, locked WHERE endpoint.id = allocated.id AND locked.id = allocated.id
    RETURNING endpoint.id
""")

_LEASE = text("""
    WITH allocated AS (
        SELECT * FROM unnest(CAST(:endpoints AS text[]), CAST(:slots AS int[])) AS allocated (endpoint_id, slots)
    ), leased AS (
        SELECT delivery.id FROM allocated
        CROSS JOIN LATERAL (
            SELECT id FROM webhook_deliveries
            WHERE endpoint_id = allocated.endpoint_id AND state = 'pending' AND next_attempt_at <= :now
            ORDER BY next_attempt_at LIMIT allocated.slots
            FOR UPDATE SKIP LOCKED
        ) AS delivery
    )
    UPDATE webhook_deliveries SET lease = :lease, next_attempt_at = :leased_until
    FROM leased WHERE webhook_deliveries.id = leased.id
    RETURNING webhook_deliveries.id
""")


@dataclass(frozen=True)
class DeliveryRequest:
    """A claimed delivery with everything that is needed to send it and to record its outcome."""

    delivery_id: str
    lease: str
    endpoint_id: str
    account_id: str
    event_id: str
    url: str
    body: bytes
    secrets: tuple[tuple[str, str], ...]  # (id, fingerprint) of each secret that signs, the current one first
    trigger: str
    attempts: int  # attempts that were spent before this one
    created_at: datetime
    traceparent: str | None = None
    job_id: str | None = None  # as is request_id, where the event is about a job
    request_id: str | None = None

    def ids(self) -> dict[str, str]:
        """Return the ids that each log line about this delivery carries."""
        known = {"request_id": self.request_id, "trace_id": trace_id_of(self.traceparent), "job_id": self.job_id}
        ids = {name: value for name, value in known.items() if value is not None}
        return {**ids, "account_id": self.account_id, "delivery_id": self.delivery_id, "event_id": self.event_id}


def claim_deliveries(
    session: Session,
    *,
    lease: str,
    lease_seconds: float,
    free: int,
    account_max: int,
    account_in_flight: Mapping[str, int],
) -> list[DeliveryRequest]:
    """Claim up to `free` due deliveries for `lease`, a token unique to this claim, and return them as requests.

    `account_max` bounds how many of the courier's slots one account may hold, counting `account_in_flight`.
    """
    if not session.scalar(_CLAIM_LOCK):
        return []
    moment = now(session)
    waiting = session.execute(_WAITING, {"now": moment, "counted": _DUE_COUNTED}).all()
    closed = [row.endpoint_id for row in waiting if not row.is_open]
    for endpoint in lock_endpoints(session, closed, skip_locked=True).values() if closed else ():
        # These deliveries were written, or released by a courier, while their endpoint was being closed.
        abandon_waiting(session, endpoint)
    lanes = [_lane(row) for row in waiting if row.is_open]
    allocated = allocate(lanes, free=free, account_max=account_max, account_in_flight=account_in_flight, moment=moment)
    if not allocated:
        return []
    paced = [paced_until(lane, allocated[lane.endpoint_id], moment) for lane in lanes if lane.endpoint_id in allocated]
    served = [lane.endpoint_id for lane in lanes if lane.endpoint_id in allocated]
    served = list(session.scalars(_PACE, {"endpoints": served, "paced": paced}))
    leased_until = moment + timedelta(seconds=lease_seconds)
    values = {"endpoints": served, "slots": [allocated[endpoint_id] for endpoint_id in served], "now": moment}
    leased = session.scalars(_LEASE, values | {"lease": lease, "leased_until": leased_until}).all()
    return load_requests(session, leased)


def load_requests(session: Session, delivery_ids: Sequence[str]) -> list[DeliveryRequest]:
    """Return the requests of deliveries that the caller has leased in this transaction."""
    rows = session.execute(
        select(
            Delivery.id,
            Delivery.lease,
            Delivery.endpoint_id,
            Delivery.account_id,
            Delivery.event_id,
            func.coalesce(Delivery.url, Endpoint.url).label("url"),
            Delivery.trigger,
            Delivery.attempts,
            Delivery.created_at,
            Event.body,
            Event.callback_body,
            Event.traceparent,
            Event.job_id,
            Event.request_id,
            Endpoint.kind,
        )
        .join(Event, Event.id == Delivery.event_id)
        .join(Endpoint, Endpoint.id == Delivery.endpoint_id)
        .where(Delivery.id.in_(delivery_ids))
    ).all()
    secrets = active_secrets(session, {owner_of(row.kind, row.account_id, row.endpoint_id) for row in rows})
    return [
        DeliveryRequest(
            delivery_id=row.id,
            lease=row.lease,
            endpoint_id=row.endpoint_id,
            account_id=row.account_id,
            event_id=row.event_id,
            url=row.url,
            # A job's callback URL may get a body of its own.
            body=((row.callback_body if row.kind == EndpointKind.CALLBACK else None) or row.body).encode(),
            secrets=secrets.get(owner_of(row.kind, row.account_id, row.endpoint_id), ()),
            trigger=row.trigger,
            attempts=row.attempts,
            created_at=row.created_at,
            traceparent=row.traceparent,
            job_id=row.job_id,
            request_id=row.request_id,
        )
        for row in rows
    ]


def _lane(row: Row[Any]) -> EndpointLane:
    return EndpointLane(
        endpoint_id=row.endpoint_id,
        account_id=row.account_id,
        due=row.due,
        in_flight=row.in_flight,
        max_in_flight=row.max_in_flight,
        rate_per_second=row.rate_per_second,
        paced_until=row.paced_until,
        failures_in_row=row.failures_in_row,
        deferred_until=row.deferred_until,
    )
