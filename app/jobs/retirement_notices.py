"""Notify the accounts that have used a model lately that it will retire: the event `model.retiring`."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.catalog.models import VideoModel
from app.clock import now
from app.events.record import record_event
from app.jobs.notice_tables import RetirementNotice
from app.jobs.schemas import unix
from app.jobs.tables import Job
from app.webhooks.fanout import fan_out

# As long before its end, or from its deprecation on where that is earlier (decision 0155).
NOTICE_LEAD = timedelta(days=60)
# Who has ordered a model within this time has used it lately.
LATELY = timedelta(days=90)
BATCH = 50


def retiring_models(session: Session, models: Iterable[VideoModel]) -> list[VideoModel]:
    """Return the models whose users are to be notified now: they retire soon or are deprecated, and still accept."""
    moment = now(session)
    return [
        each
        for each in models
        if each.enabled and each.retires_at is not None and _notice_from(each, each.retires_at) <= moment
        if not each.is_retired(moment)
    ]


def _notice_from(model: VideoModel, retires_at: datetime) -> datetime:
    earliest = retires_at - NOTICE_LEAD
    return earliest if model.deprecated_at is None else min(earliest, model.deprecated_at)


def accounts_to_notify(session: Session, model: VideoModel) -> list[tuple[str, bool]]:
    """Return some accounts that have used a model lately and were not notified, and whether by test films only."""
    notified = select(RetirementNotice.account_id).where(
        RetirementNotice.account_id == Job.account_id,
        RetirementNotice.model == model.id,
        RetirementNotice.retires_at == model.retires_at,
    )
    query = (
        select(Job.account_id, func.bool_and(Job.test))
        .where(Job.model == model.id, Job.created_at > now(session) - LATELY, ~notified.exists())
        .group_by(Job.account_id)
        .limit(BATCH)
    )
    return [(account_id, is_test) for account_id, is_test in session.execute(query)]


def notify_account(session: Session, account_id: str, model: VideoModel, *, is_test: bool) -> bool:
    """Write the event of an account about a model's end, with its deliveries; return whether this call did it.

    It is written once per account, model and date, by whichever process comes first.
    """
    notice = {
        "account_id": account_id,
        "model": model.id,
        "retires_at": model.retires_at,
        "noticed_at": now(session),
    }
    written = insert(RetirementNotice).values(notice).on_conflict_do_nothing().returning(RetirementNotice.account_id)
    if session.scalar(written) is None:
        return False
    data = {
        "id": model.id,
        "object": "model",
        "name": model.name,
        "deprecated_at": unix(model.deprecated_at),
        "retires_at": unix(model.retires_at),
        "replaced_by": model.replaced_by or None,
    }
    event = record_event(
        session,
        account_id=account_id,
        project_id=None,
        job_id=None,
        type="model.retiring",
        data=data,
        test=is_test,
    )
    fan_out(session, event)
    return True
