"""Request and response schemas of webhooks. The endpoint is a superset of the OpenAI SDK's `WebhookEndpoint`."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from app.webhooks.health import breaker_is_open
from app.webhooks.tables import MAX_IN_FLIGHT, RATE_PER_SECOND, Attempt, Delivery, Endpoint

Name = Annotated[str, StringConstraints(strip_whitespace=True, max_length=100)]
Url = Annotated[str, StringConstraints(min_length=1, max_length=2_048)]
EventFilter = Annotated[str, StringConstraints(min_length=1, max_length=64)]

_EXAMPLE: dict[str, Any] = {
    "name": "billing",
    "url": "https://hooks.example.com/cinemeter",
    "event_types": ["video.completed"],
}


class EndpointCreate(BaseModel):
    """A new endpoint."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_EXAMPLE]})

    url: Url = Field(description="HTTPS URL that events are posted to.")
    name: Name = ""
    event_types: list[EventFilter] = Field(
        default_factory=lambda: ["*"], min_length=1, max_length=50, description="Event types, `video.*`, or `*`."
    )
    project: str | None = Field(None, description="Only this project's events; default: all projects.")
    max_in_flight: int = Field(MAX_IN_FLIGHT, ge=1, le=100, description="Deliveries in flight at once, at most.")
    rate_per_second: int = Field(RATE_PER_SECOND, ge=1, le=1_000, description="Deliveries per second, at most.")


class EndpointUpdate(BaseModel):
    """Changes of an endpoint; omitted fields stay as they are."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"event_types": ["video.*"]}]})

    url: Url | None = None
    name: Name | None = None
    event_types: list[EventFilter] | None = Field(None, min_length=1, max_length=50)
    max_in_flight: int | None = Field(None, ge=1, le=100)
    rate_per_second: int | None = Field(None, ge=1, le=1_000)
    enabled: bool | None = Field(None, description="false stops deliveries; true enables it and resets its failures.")


class SecretRotate(BaseModel):
    """How long the old secret keeps signing together with the new one."""

    model_config = ConfigDict(extra="forbid")

    keep_old_secret_active_for_24_hours: bool = Field(False, description="The OpenAI SDK's name for 24 hours.")
    keep_old_hours: int | None = Field(None, ge=0, le=72, description="The same in hours, up to 72.")

    def hours(self) -> int:
        """Return the hours for which the old secret stays valid."""
        if self.keep_old_hours is not None:
            return self.keep_old_hours
        return 24 if self.keep_old_secret_active_for_24_hours else 0


class SampleRequest(BaseModel):
    """The event type to send as a sample."""

    model_config = ConfigDict(extra="forbid")

    event_type: str = Field("webhook.test", max_length=64)


class RecoverRequest(BaseModel):
    """A time range of events; those that were not delivered are delivered again."""

    model_config = ConfigDict(extra="forbid")

    since: datetime
    until: datetime | None = None
    dry_run: bool = Field(False, description="Only count what would be delivered.")


class EndpointOut(BaseModel):
    """An endpoint and its health."""

    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    name: str
    url: str
    event_types: list[str]
    project: str | None
    test: bool
    status: Literal["enabled", "held_back", "failing", "disabled"] = Field(
        description="held_back: its breaker is open, deliveries wait; failing: no success since `failing_since`."
    )
    disabled_reason: str | None = Field(description="gone (answered 410), failing (for five days) or owner.")
    failing_since: int | None
    held_back_until: int | None
    max_in_flight: int
    rate_per_second: int
    signing_secret_hint: str | None
    signing_secret: str | None = Field(None, description="Only in the response to creation and rotation.")
    created_at: int
    updated_at: int


class CallbackSecretOut(BaseModel):
    """The secret that signs for the `callback_url` of every job of an account."""

    object: Literal["webhook_callback_secret"] = "webhook_callback_secret"
    signing_secret_hint: str
    signing_secret: str | None = Field(None, description="Only in the response to a rotation.")
    created_at: int


class AttemptOut(BaseModel):
    """One request of a delivery, or a failure to make it."""

    id: str
    object: Literal["webhook_attempt"] = "webhook_attempt"
    trigger: str
    started_at: int
    status_code: int | None
    fault: str | None = Field(description="unreachable, tls_failed, timeout, disconnected, bad_answer or internal.")
    ip: str | None = Field(description="The IP address of the connection.")
    dns_ms: int | None
    connect_ms: int | None
    tls_ms: int | None
    ttfb_ms: int | None
    total_ms: int | None
    retry_after_seconds: int | None
    excerpt: str = Field(description="The first 4 KiB of the answer.")


class DeliveryOut(BaseModel):
    """The delivery of one event to one endpoint."""

    id: str
    object: Literal["webhook_delivery"] = "webhook_delivery"
    event_id: str
    event_type: str
    endpoint_id: str | None = Field(description="Null for a job's own callback_url.")
    url: str
    trigger: str
    state: Literal["pending", "delivered", "exhausted", "abandoned"]
    reason: str | None
    attempts: int
    next_attempt_at: int | None
    last_status_code: int | None
    created_at: int
    ended_at: int | None


class SampleOut(BaseModel):
    """The result of a test send. The OpenAI SDK reads `status_code` and `success`."""

    status_code: int
    success: bool
    event_id: str
    delivery_id: str
    attempt: AttemptOut


# These faults would reveal our internal network, so customers see one code for all of them.
_UNREACHABLE = ("blocked", "dns_failed", "connect_failed", "proxy_failed")


def show_endpoint(endpoint: Endpoint, now: datetime, *, hint: str | None, secret: str | None = None) -> EndpointOut:
    """Return the API representation of an endpoint at `now`; `secret` only where this request created it."""
    breaker_open = breaker_is_open(endpoint, now)
    status: Literal["enabled", "held_back", "failing", "disabled"] = "enabled"
    if endpoint.disabled_at is not None:
        status = "disabled"
    elif breaker_open:
        status = "held_back"
    elif endpoint.failing_since is not None:
        status = "failing"
    return EndpointOut(
        id=endpoint.id,
        name=endpoint.name,
        url=endpoint.url,
        event_types=endpoint.event_types,
        project=endpoint.project_id,
        test=endpoint.test,
        status=status,
        disabled_reason=endpoint.disabled_reason,
        failing_since=_unix(endpoint.failing_since),
        held_back_until=_unix(endpoint.deferred_until) if breaker_open else None,
        max_in_flight=endpoint.max_in_flight,
        rate_per_second=endpoint.rate_per_second,
        signing_secret_hint=hint,
        signing_secret=secret,
        created_at=int(endpoint.created_at.timestamp()),
        updated_at=int(endpoint.updated_at.timestamp()),
    )


def show_delivery(delivery: Delivery, event_type: str, endpoint_url: str) -> DeliveryOut:
    """Return the API representation of a delivery."""
    return DeliveryOut(
        id=delivery.id,
        event_id=delivery.event_id,
        event_type=event_type,
        endpoint_id=None if delivery.url else delivery.endpoint_id,
        url=delivery.url or endpoint_url,
        trigger=delivery.trigger,
        state=delivery.state,  # type: ignore[arg-type]
        reason=delivery.ended_reason,
        attempts=delivery.attempts,
        next_attempt_at=_unix(delivery.next_attempt_at),
        last_status_code=delivery.last_status,
        created_at=int(delivery.created_at.timestamp()),
        ended_at=_unix(delivery.ended_at),
    )


def show_attempt(attempt: Attempt) -> AttemptOut:
    """Return the API representation of an attempt; of an unreachable receiver without cause, address and timings."""
    hidden = attempt.fault in _UNREACHABLE
    return AttemptOut(
        id=attempt.id,
        trigger=attempt.trigger,
        started_at=int(attempt.started_at.timestamp()),
        status_code=attempt.status,
        fault="unreachable" if hidden else attempt.fault,
        ip=None if hidden else attempt.ip,
        dns_ms=None if hidden else attempt.dns_ms,
        connect_ms=None if hidden else attempt.connect_ms,
        tls_ms=None if hidden else attempt.tls_ms,
        ttfb_ms=None if hidden else attempt.ttfb_ms,
        total_ms=None if hidden else attempt.total_ms,
        retry_after_seconds=attempt.retry_after_seconds,
        excerpt=attempt.excerpt,
    )


def _unix(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())
