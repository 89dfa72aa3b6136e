"""Write an event, in the transaction of the fact that it reports."""

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.clock import now
from app.db import new_id
from app.events.tables import Event
from app.events.types import EVENT_TYPES
from app.sql_statements import new_row


def record_event(
    session: Session,
    *,
    account_id: str,
    project_id: str | None,
    job_id: str | None,
    type: str,
    data: dict[str, Any],
    callback_url: str | None = None,
    callback_body: str | None = None,
    test: bool = False,
    shown_as: str | None = None,
    traceparent: str | None = None,
    request_id: str | None = None,
) -> Event:
    """Write an event and return it. `data` is its public body, with the id of its subject in `id`.

    With `job_id` the caller holds that job's row lock, so its events are numbered in order. `callback_url` is the job's
    own URL, notified besides the endpoints, with `callback_body` where that is not None. `shown_as` makes a
    `webhook.test` look like an event of another type to its receiver, while it stays a test here. Raises ValueError for
    an unknown type or for data without an id: both are bugs of ours, not errors of a customer.
    """
    sequence = None
    if job_id is not None:
        last = session.scalar(select(func.max(Event.sequence)).where(Event.job_id == job_id))
        sequence = (last or 0) + 1
    event = new_event(
        account_id=account_id,
        project_id=project_id,
        job_id=job_id,
        type=type,
        data=data,
        at=now(session),
        sequence=sequence,
        callback_url=callback_url,
        callback_body=callback_body,
        test=test,
        shown_as=shown_as,
        traceparent=traceparent,
        request_id=request_id,
    )
    session.add(event)
    session.flush()
    return event


def new_event(
    *,
    account_id: str,
    project_id: str | None,
    job_id: str | None,
    type: str,
    data: dict[str, Any],
    at: datetime,
    sequence: int | None,
    callback_url: str | None = None,
    callback_body: str | None = None,
    test: bool = False,
    shown_as: str | None = None,
    traceparent: str | None = None,
    request_id: str | None = None,
) -> Event:
    """Return an event that is still to be written, the `sequence`-th of its job. Raises as `record_event` does."""
    if type not in EVENT_TYPES or (shown_as is not None and type != "webhook.test"):
        raise ValueError(f"event type {type!r} is not in EVENT_TYPES, or may not be shown as another")
    if not data.get("id"):
        raise ValueError("the data of an event needs the id of its subject")
    columns = {
        "id": new_id("evt"),
        "account_id": account_id,
        "project_id": project_id,
        "job_id": job_id,
        "test": test,
        "type": type,
        "sequence": sequence,
        "callback_url": callback_url,
        "callback_body": callback_body,
        "occurred_at": at,
        "traceparent": traceparent,
        "request_id": request_id,
    }
    event = new_row(Event, columns)
    event.body = _body(event, shown_as or type, at, data)
    return event


def _body(event: Event, type_: str, moment: datetime, data: dict[str, Any]) -> str:
    """Return the envelope: Standard Webhooks' `type`, `timestamp` and `data`, and the keys that OpenAI sends."""
    envelope: dict[str, Any] = {
        "id": event.id,
        "object": "event",
        "type": type_,
        "created_at": int(moment.timestamp()),
        "timestamp": moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
    if event.sequence is not None:
        envelope["sequence"] = event.sequence
    # ASCII only: the bytes are then the same however a receiver decodes them.
    return json.dumps(envelope | {"data": data}, separators=(",", ":"), allow_nan=False)
