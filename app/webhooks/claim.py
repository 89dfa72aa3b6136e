"""Claim due deliveries under a lease: which ones is decided here for all couriers, one claim at a time.

A claim moves `next_attempt_at` ahead by the lease. A courier that dies simply never reports, and what it had claimed
falls due again. The claims of all couriers take turns under one lock, so that the caps of an endpoint hold for all
couriers together; each is a few indexed statements and never waits for the network.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, func, select, text
from sqlalchemy.orm import Session

from app.clock import now
from app.events.tables import Event
from app.webhooks.health import abandon_waiting, lock_endpoints
from app.webhooks.limits import EndpointLane, allocate, pace
from app.webhooks.secret import alive_secrets, owner_of
from app.webhooks.tables import Delivery, Endpoint

# Enough to fill any endpoint's places; counting further would cost time on a long backlog.
_DUE_COUNTED = 100

_TURN = text("SELECT pg_advisory_xact_lock(hashtextextended('cinemeter.webhooks.claim', 0))")

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
    ), flying AS (
        SELECT endpoint_id, count(*) AS count FROM webhook_deliveries
        WHERE lease IS NOT NULL AND next_attempt_at > :now
        GROUP BY endpoint_id
    )
    SELECT endpoint.id AS endpoint_id, endpoint.account_id, due.count AS due,
        coalesce(flying.count, 0) AS in_flight, endpoint.max_in_flight, endpoint.rate_per_second,
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
    LEFT JOIN flying ON flying.endpoint_id = endpoint.id
    WHERE due.count > 0
    ORDER BY due.oldest
""")

# Endpoints before deliveries, by id: the order in which every transaction of webhooks takes its locks.
_PACE = text("""
    WITH dealt AS (
        SELECT * FROM unnest(CAST(:endpoints AS text[]), CAST(:paces AS timestamptz[])) AS dealt (id, paced_until)
    ), locked AS (
        SELECT id FROM webhook_endpoints WHERE id = ANY (CAST(:endpoints AS text[])) ORDER BY id FOR NO KEY UPDATE
    )
    UPDATE webhook_endpoints AS endpoint SET paced_until = dealt.paced_until
    FROM dealt, locked WHERE endpoint.id = dealt.id AND locked.id = dealt.id
""")

_TAKE = text("""
    WITH dealt AS (
        SELECT * FROM unnest(CAST(:endpoints AS text[]), CAST(:places AS int[])) AS dealt (endpoint_id, places)
    ), taken AS (
        SELECT delivery.id FROM dealt
        CROSS JOIN LATERAL (
            SELECT id FROM webhook_deliveries
            WHERE endpoint_id = dealt.endpoint_id AND state = 'pending' AND next_attempt_at <= :now
            ORDER BY next_attempt_at LIMIT dealt.places
            FOR UPDATE SKIP LOCKED
        ) AS delivery
    )
    UPDATE webhook_deliveries SET lease = :lease, next_attempt_at = :leased_until
    FROM taken WHERE webhook_deliveries.id = taken.id
    RETURNING webhook_deliveries.id
""")


@dataclass(frozen=True)
class DeliveryRequest:
    """A claimed delivery with all that is needed to send it and to report on it."""

    delivery_id: str
    lease: str
    endpoint_id: str
    account_id: str
    event_id: str
    url: str
    body: bytes
    secrets: tuple[tuple[str, str], ...]  # (id, fingerprint) of each secret that signs, the current one first
    trigger: str
    attempts: int  # how many were spent before this one
    created_at: datetime
    traceparent: str | None = None
    job_id: str | None = None  # as is request_id, where the event is about a job
    request_id: str | None = None

    def ids(self) -> dict[str, str]:
        """Return the ids that each log line about this delivery carries."""
        known = {"request_id": self.request_id, "job_id": self.job_id}
        told = {name: value for name, value in known.items() if value is not None}
        return {**told, "delivery_id": self.delivery_id, "event_id": self.event_id}


def claim_deliveries(
    session: Session,
    *,
    lease: str,
    lease_seconds: float,
    free: int,
    account_max: int,
    account_in_flight: Mapping[str, int],
) -> list[DeliveryRequest]:
    """Claim up to `free` due deliveries for `lease`, a token of this claim alone, and return them as parcels.

    `account_max` bounds how many of the courier's places one account may hold, counting `account_in_flight`.
    """
    session.execute(_TURN)
    moment = now(session)
    waiting = session.execute(_WAITING, {"now": moment, "counted": _DUE_COUNTED}).all()
    closed = [row.endpoint_id for row in waiting if not row.is_open]
    for endpoint in lock_endpoints(session, closed).values() if closed else ():
        # A delivery that was written, or came back from a courier, while its endpoint was being closed.
        abandon_waiting(session, endpoint)
    lanes = [_lane(row) for row in waiting if row.is_open]
    dealt = allocate(lanes, free=free, account_max=account_max, account_in_flight=account_in_flight, moment=moment)
    if not dealt:
        return []
    paces = [pace(lane, dealt[lane.endpoint_id], moment) for lane in lanes if lane.endpoint_id in dealt]
    served = [lane.endpoint_id for lane in lanes if lane.endpoint_id in dealt]
    session.execute(_PACE, {"endpoints": served, "paces": paces})
    leased_until = moment + timedelta(seconds=lease_seconds)
    values = {"endpoints": served, "places": [dealt[endpoint_id] for endpoint_id in served], "now": moment}
    taken = session.scalars(_TAKE, values | {"lease": lease, "leased_until": leased_until}).all()
    return load_requests(session, taken)


def load_requests(session: Session, delivery_ids: Sequence[str]) -> list[DeliveryRequest]:
    """Return the parcels of deliveries that the caller has leased in this transaction."""
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
            Event.traceparent,
            Event.job_id,
            Event.request_id,
            Endpoint.kind,
        )
        .join(Event, Event.id == Delivery.event_id)
        .join(Endpoint, Endpoint.id == Delivery.endpoint_id)
        .where(Delivery.id.in_(delivery_ids))
    ).all()
    secrets = alive_secrets(session, {owner_of(row.kind, row.account_id, row.endpoint_id) for row in rows})
    return [
        DeliveryRequest(
            delivery_id=row.id,
            lease=row.lease,
            endpoint_id=row.endpoint_id,
            account_id=row.account_id,
            event_id=row.event_id,
            url=row.url,
            body=row.body.encode(),
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
