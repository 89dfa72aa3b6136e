"""How long an account's files are kept, and how many bytes they may have: by its membership, and by the order."""

from datetime import datetime, timedelta

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.accounts.memberships import membership_at
from app.assets.tables import Asset, AssetState
from app.clock import now
from app.errors import AppError
from app.jobs.retention_request import FILM_SECONDS_MIN, Retention
from app.jobs.spec import Spec
from app.jobs.tables import Job
from app.prices.find import book_at
from pricing.rules import Membership

_DAY_SECONDS = 86_400


def retention_end(session: Session, account_id: str) -> datetime:
    """Return the moment at which a file that the account stores now will be deleted."""
    return now(session) + timedelta(days=_membership(session, account_id).retention_days)


def storage_quota(session: Session, account_id: str) -> int:
    """Return how many bytes the files that an account uploads may have together."""
    return _membership(session, account_id).storage_bytes


def check_retention(retention: Retention | None, membership: Membership) -> None:
    """Refuse a retention longer than the membership's. Raises AppError `invalid_request`, which names the bound."""
    most = membership.retention_days * _DAY_SECONDS
    for name, least in (("film", FILM_SECONDS_MIN), ("inputs", 0)):
        seconds = getattr(retention, name, None)
        if seconds is not None and seconds > most:
            message = (
                f"The membership {membership.id} keeps files for at most {most} seconds "
                f"({membership.retention_days} days); retention.{name} is {seconds}."
            )
            raise AppError("invalid_request", message, field=f"retention.{name}", value=seconds, allowed=[least, most])


def film_retention(job: Job, membership: Membership) -> timedelta:
    """Return how long the film of a job is kept after its end."""
    seconds = (job.retention or {}).get("film")
    return timedelta(days=membership.retention_days) if seconds is None else timedelta(seconds=seconds)


def expire_inputs(session: Session, job: Job, ended_at: datetime) -> None:
    """Let the inputs of a job that has ended expire as its order asked for; none lives longer by that.

    They are locked by their ids, so that two jobs with the same inputs may end at once.
    """
    seconds = (job.retention or {}).get("inputs")
    if seconds is None:
        return
    ready = (Asset.id.in_(Spec.model_validate(job.spec).input_ids()), Asset.state == AssetState.READY)
    locked = session.scalars(select(Asset.id).where(*ready).order_by(Asset.id).with_for_update()).all()
    until = ended_at + timedelta(seconds=seconds)
    session.execute(
        update(Asset).where(Asset.id.in_(locked)).values(expires_at=func.least(Asset.expires_at, until)),
        execution_options={"synchronize_session": False},
    )


def _membership(session: Session, account_id: str) -> Membership:
    moment = now(session)
    book = book_at(session, moment).book
    return book.membership(book.known_membership(membership_at(session, account_id, moment)))
