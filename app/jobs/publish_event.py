"""Publish what happened to a job: the event in this transaction, its deliveries, and a live message."""

import json
from typing import Any

from sqlalchemy.orm import Session

from app.events.record import record_event
from app.jobs.present import show_job
from app.jobs.tables import Job, ReceiptRow
from app.progress import publish_after_commit
from app.webhooks.fanout import fan_out


def publish_job_event(session: Session, job: Job, type_: str, *, receipt: ReceiptRow | None = None) -> None:
    """Write the event of a fact about a job, and its deliveries, in the transaction that makes the fact true."""
    data: dict[str, Any] = show_job(job, receipt=receipt).model_dump(mode="json", exclude_none=True)
    if job.film_key is not None:
        # A stable URL that needs a key; a presigned one would have expired, or leaked, by the time of a retry.
        data["result_url"] = data["video_url"]
    if receipt is not None:
        data["receipt"] = json.loads(receipt.body)
    event = record_event(
        session,
        account_id=job.account_id,
        project_id=job.project_id,
        job_id=job.id,
        type=type_,
        data=data,
        callback_url=job.callback_url,
        test=job.test,
        traceparent=job.traceparent,
        request_id=job.request_id,
    )
    fan_out(session, event)
    publish_after_commit(session, job.id, {"type": type_})
