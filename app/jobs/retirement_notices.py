"""Notify the accounts that have used a model lately that it will retire: the event `model.retiring`."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Boolean, Select, column, select, true, values
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.accounts.tables import Account
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
# How many accounts one statement looks at; it reads the films of each within LATELY until one is of the model.
ACCOUNTS_BATCH = 100


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


def account_batch(session: Session, after: str) -> list[str]:
    """Return the ids of the next accounts after this id, in their order; none at the end."""
    query = select(Account.id).where(Account.id > after).order_by(Account.id).limit(ACCOUNTS_BATCH)
    return list(session.scalars(query))


def accounts_to_notify(session: Session, model: VideoModel, account_ids: Sequence[str]) -> list[tuple[str, bool]]:
    """Return those of these accounts that have used a model lately and were not notified.

    Each with its side, which is true for test films: the live side is notified by itself.
    """
    return [(account_id, is_test) for account_id, is_test in session.execute(to_notify(session, model, account_ids))]


def to_notify(session: Session, model: VideoModel, account_ids: Sequence[str]) -> Select[str, bool]:
    """Return the query of `accounts_to_notify`. It reads the films of each account by ix_jobs_films."""
    sides = values(column("test", Boolean), name="sides").data([(False,), (True,)])
    notice = select(RetirementNotice.account_id).where(
        RetirementNotice.account_id == Account.id,
        RetirementNotice.test == sides.c.test,
        RetirementNotice.model == model.id,
        RetirementNotice.retires_at == model.retires_at,
    )
    # Not EXISTS, which may become a join with all films of the model.
    film = (
        select(Job.id)
        .where(
            Job.account_id == Account.id,
            Job.test == sides.c.test,
            Job.model == model.id,
            Job.created_at > now(session) - LATELY,
        )
        .order_by(Job.created_at.desc())
        .limit(1)
        .lateral()
    )
    query = select(Account.id, sides.c.test).select_from(Account).join(sides, true()).join(film, true())
    return query.where(Account.id.in_(account_ids), ~notice.exists())


def notify_account(session: Session, account_id: str, model: VideoModel, *, is_test: bool) -> bool:
    """Write the event of an account about a model's end, with its deliveries; return whether this call did it.

    It is written once per account, side (test or live), model and date, by whichever process comes first.
    """
    notice = {
        "account_id": account_id,
        "test": is_test,
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
