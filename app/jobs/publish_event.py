"""Publish what happened to a job: the event in this transaction, its deliveries, and a live message."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from app.clock import now
from app.db import new_id
from app.events.record import new_event, record_event
from app.events.tables import Event
from app.jobs.prediction import prediction_text
from app.jobs.present import show_job
from app.jobs.tables import Job, ReceiptRow
from app.progress import publish_after_commit
from app.webhooks.fanout import Target, callback_targets, fan_out, is_subscribed


def publish_job_event(session: Session, job: Job, type_: str) -> None:
    """Write the event of a fact about a job, and its deliveries, in the transaction that makes the fact true."""
    callback_url, callback_body = _callback(session, job, type_)
    event = record_event(
        session,
        account_id=job.account_id,
        project_id=job.project_id,
        job_id=job.id,
        type=type_,
        data=_data(job, None),
        callback_url=callback_url,
        callback_body=callback_body,
        test=job.test,
        traceparent=job.traceparent,
        request_id=job.request_id,
    )
    fan_out(session, event)
    publish_after_commit(session, job.id, {"type": type_})


@dataclass(frozen=True)
class JobEvent:
    """The next event of a job and its deliveries, for the statement that makes its fact true."""

    event: Event
    deliveries: Sequence[Target]

    def inputs(self) -> dict[str, Any]:
        """Return the parameters of the statement."""
        event = self.event
        return {
            "event_id": event.id,
            "event_type": event.type,
            "event_body": event.body,
            "sequence": event.sequence,
            "callback_url": event.callback_url,
            "callback_body": event.callback_body,
            "traceparent": event.traceparent,
            "request_id": event.request_id,
            "deliveries": json.dumps([(new_id("whd"), *target) for target in self.deliveries]),
        }


def event_inputs(events: Sequence[JobEvent]) -> dict[str, str]:
    """Return the parameters of a statement that writes several jobs' first events, each with its deliveries."""
    names = ("id", "job_id", "body", "callback_url")
    rows = [{name: getattr(each.event, name) for name in names} for each in events]
    deliveries = [(new_id("whd"), each.event.id, *target) for each in events for target in each.deliveries]
    return {"events": json.dumps(rows), "deliveries": json.dumps(deliveries)}


def new_job_event(
    session: Session,
    job: Job,
    type_: str,
    *,
    sequence: int,
    endpoints: Collection[tuple[str, list[str]]],
    receipt: ReceiptRow | None = None,
) -> JobEvent:
    """Return the event of a fact about a job, the `sequence`-th of it.

    `endpoints` are the ids and filters of the account's endpoints for it.
    """
    callback_url, callback_body = _callback(session, job, type_)
    event = new_event(
        account_id=job.account_id,
        project_id=job.project_id,
        job_id=job.id,
        type=type_,
        data=_data(job, receipt),
        at=now(session),
        sequence=sequence,
        callback_url=callback_url,
        callback_body=callback_body,
        test=job.test,
        traceparent=job.traceparent,
        request_id=job.request_id,
    )
    targets: list[Target] = [(endpoint, None) for endpoint, filters in endpoints if is_subscribed(filters, type_)]
    return JobEvent(event, targets + callback_targets(session, event))


def _callback(session: Session, job: Job, type_: str) -> tuple[str | None, str | None]:
    """Return the callback URL of an event, and the body that it gets in place of our event where it has its own."""
    if job.callback_events is None or job.callback_url is None:
        return job.callback_url, None
    return (job.callback_url, prediction_text(session, job)) if type_ in job.callback_events else (None, None)


def _data(job: Job, receipt: ReceiptRow | None) -> dict[str, Any]:
    data: dict[str, Any] = show_job(job, receipt=receipt).model_dump(mode="json", exclude_none=True)
    if job.film_key is not None:
        # A stable URL that needs a key; a presigned one would have expired, or leaked, by the time of a retry.
        data["result_url"] = data["video_url"]
    if receipt is not None:
        data["receipt"] = json.loads(receipt.body)
    return data
