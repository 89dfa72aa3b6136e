"""Tables of webhooks: endpoints, their secrets, deliveries, and the log of attempts."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, SmallInteger, Text, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app.accounts.tables import Account, Project
from app.db import Base, Moment, one_of

# Defaults of an endpoint.
MAX_IN_FLIGHT = 10
RATE_PER_SECOND = 100


class EndpointKind(StrEnum):
    """Registered by a customer; or the origin (scheme, host, port) of callback URLs of an account's jobs."""

    REGISTERED = "registered"
    CALLBACK = "callback"


class DeliveryState(StrEnum):
    """The state of a delivery; all but the first are final."""

    PENDING = "pending"
    DELIVERED = "delivered"
    EXHAUSTED = "exhausted"
    ABANDONED = "abandoned"


class Trigger(StrEnum):
    """Why a delivery was created."""

    AUTO = "auto"
    MANUAL = "manual"
    RECOVER = "recover"
    TEST = "test"


class Endpoint(Base):
    """A URL that an account's events are posted to, and its health.

    A callback endpoint is internal: it holds the limits and the breaker of an origin. Deliveries have the full URL.
    """

    __tablename__ = "webhook_endpoints"
    __table_args__ = (
        one_of("kind", EndpointKind),
        CheckConstraint("max_in_flight BETWEEN 1 AND 100", name="max_in_flight"),
        CheckConstraint("rate_per_second BETWEEN 1 AND 1000", name="rate_per_second"),
        CheckConstraint("(disabled_at IS NULL) = (disabled_reason IS NULL)", name="disabled_for_a_reason"),
        Index(
            "uq_webhook_endpoints_callback",
            "account_id",
            "url",
            unique=True,
            postgresql_where=text("kind = 'callback'"),
        ),
        Index("ix_webhook_endpoints_account", "account_id", postgresql_where=text("deleted_at IS NULL")),
        # For the operators' inbox: the few that fail.
        Index(
            "ix_webhook_endpoints_failing",
            "failing_since",
            postgresql_where=text("failing_since IS NOT NULL AND deleted_at IS NULL AND disabled_at IS NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey(Account.id))
    project_id: Mapped[str | None] = mapped_column(ForeignKey(Project.id))  # NULL: events of all projects
    test: Mapped[bool] = mapped_column(default=False)  # receives the events of test jobs, and only these
    kind: Mapped[str] = mapped_column(Text, default=EndpointKind.REGISTERED)
    name: Mapped[str] = mapped_column(Text, default="")
    url: Mapped[str] = mapped_column(Text)
    event_types: Mapped[list[str]] = mapped_column(ARRAY(Text))
    max_in_flight: Mapped[int] = mapped_column(Integer)
    rate_per_second: Mapped[int] = mapped_column(Integer)
    paced_until: Mapped[datetime | None] = mapped_column(Moment)  # its rate is used up until then
    failures_in_row: Mapped[int] = mapped_column(Integer, default=0)  # that count towards the breaker
    deferred_until: Mapped[datetime | None] = mapped_column(Moment)  # by the breaker or Retry-After
    failing_since: Mapped[datetime | None] = mapped_column(Moment)  # the first failure since the last success
    warned_percent: Mapped[int] = mapped_column(SmallInteger, default=0)  # of the time until it is disabled
    disabled_at: Mapped[datetime | None] = mapped_column(Moment)
    disabled_reason: Mapped[str | None] = mapped_column(Text)  # gone (410), failing (five days), owner
    deleted_at: Mapped[datetime | None] = mapped_column(Moment)
    created_at: Mapped[datetime] = mapped_column(Moment)
    updated_at: Mapped[datetime] = mapped_column(Moment)


class Secret(Base):
    """One signing secret of an endpoint, or (without endpoint) of an account's callbacks. The secret is not stored.

    It is derived from the service's secret and this row's id (see secret.py); the fingerprint detects a change.
    """

    __tablename__ = "webhook_secrets"
    __table_args__ = (
        Index(
            "uq_webhook_secrets_current",
            "account_id",
            text("coalesce(endpoint_id, '')"),
            unique=True,
            postgresql_where=text("expires_at IS NULL"),
        ),
        Index("ix_webhook_secrets_endpoint", "endpoint_id"),
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey(Account.id))
    endpoint_id: Mapped[str | None] = mapped_column(ForeignKey("webhook_endpoints.id"))
    hint: Mapped[str] = mapped_column(Text)
    fingerprint: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Moment)
    expires_at: Mapped[datetime | None] = mapped_column(Moment)  # NULL: the current one


class Delivery(Base):
    """One event for one endpoint. A pending delivery is due at `next_attempt_at`; a courier's lease moves that ahead.

    Final deliveries never change; delivering an event again is a new row.
    """

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        one_of("state", DeliveryState),
        one_of("trigger", Trigger),
        CheckConstraint("(state = 'pending') = (next_attempt_at IS NOT NULL)", name="pending_is_due"),
        CheckConstraint("(state = 'pending') = (ended_at IS NULL)", name="final_has_ended"),
        CheckConstraint("lease IS NULL OR state = 'pending'", name="lease_of_pending"),
        # The fan-out happens once, and an event is pending for an endpoint at most once.
        Index(
            "uq_webhook_deliveries_auto",
            "event_id",
            "endpoint_id",
            unique=True,
            postgresql_where=text("trigger = 'auto'"),
        ),
        Index(
            "uq_webhook_deliveries_open",
            "event_id",
            "endpoint_id",
            unique=True,
            postgresql_where=text("state = 'pending'"),
        ),
        Index(
            "ix_webhook_deliveries_due", "endpoint_id", "next_attempt_at", postgresql_where=text("state = 'pending'")
        ),
        Index("ix_webhook_deliveries_leased", "endpoint_id", postgresql_where=text("lease IS NOT NULL")),
        Index("ix_webhook_deliveries_endpoint", "endpoint_id", "created_at", "id"),
        Index("ix_webhook_deliveries_account", "account_id", "created_at", "id"),
        Index("ix_webhook_deliveries_event", "event_id"),
        # For the operators' list of all deliveries, and of those in one state.
        Index("ix_webhook_deliveries_created", "created_at", "id"),
        Index("ix_webhook_deliveries_state_created", "state", "created_at", "id"),
        Index("ix_webhook_deliveries_ended", "ended_at", postgresql_where=text("ended_at IS NOT NULL")),
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    event_id: Mapped[str] = mapped_column(ForeignKey("events.id"))
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("webhook_endpoints.id"))
    account_id: Mapped[str] = mapped_column(ForeignKey(Account.id))
    url: Mapped[str | None] = mapped_column(Text)  # a job's callback URL; NULL: the endpoint's current URL
    trigger: Mapped[str] = mapped_column(Text, default=Trigger.AUTO)
    state: Mapped[str] = mapped_column(Text, default=DeliveryState.PENDING)
    attempts: Mapped[int] = mapped_column(SmallInteger, default=0)  # spent attempts of the schedule
    next_attempt_at: Mapped[datetime | None] = mapped_column(Moment)
    lease: Mapped[str | None] = mapped_column(Text)
    last_status: Mapped[int | None] = mapped_column(SmallInteger)
    ended_at: Mapped[datetime | None] = mapped_column(Moment)
    ended_reason: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Moment)


class Attempt(Base):
    """One request of a delivery, or one that was refused before connecting: a row of the customer's log."""

    __tablename__ = "webhook_attempts"
    __table_args__ = (Index("ix_webhook_attempts_delivery", "delivery_id", "started_at"),)

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    delivery_id: Mapped[str] = mapped_column(ForeignKey("webhook_deliveries.id"))
    trigger: Mapped[str] = mapped_column(Text)
    started_at: Mapped[datetime] = mapped_column(Moment)
    status: Mapped[int | None] = mapped_column(SmallInteger)
    fault: Mapped[str | None] = mapped_column(Text)  # why there is no status: a value of app.net.Fault
    detail: Mapped[str] = mapped_column(Text, default="")  # for operators; may contain internal addresses
    ip: Mapped[str | None] = mapped_column(Text)  # the address of the connection
    dns_ms: Mapped[int | None] = mapped_column(Integer)
    connect_ms: Mapped[int | None] = mapped_column(Integer)
    tls_ms: Mapped[int | None] = mapped_column(Integer)
    ttfb_ms: Mapped[int | None] = mapped_column(Integer)
    total_ms: Mapped[int] = mapped_column(Integer)
    retry_after_seconds: Mapped[int | None] = mapped_column(Integer)
    excerpt: Mapped[str] = mapped_column(Text, default="")  # the first 4 KiB of the answer, as text
