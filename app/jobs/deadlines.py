"""Deadlines that a service tier promises an order: the latest start, or the moment of expiry."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from app.clock import now
from app.jobs.plan import CLASS_OF_TIER
from app.jobs.schemas import unix
from app.jobs.states import JobState
from pricing.rules import ServiceTier

# A flex job this close to its tier's deadline is served as standard, so that it still starts in time.
FLEX_SLACK = timedelta(hours=2)


@dataclass(frozen=True)
class Deadlines:
    """The deadlines of an order by its service tier.

    `start_by` (priority): when missed, the tier's line drops from the receipt. `not_after` (flex, or the caller's own
    `expires_after`): an order that has not started by then ends as expired, and is free. `promote_at` (flex): from
    then on a waiting order has standard priority. It follows from the tier's deadline, never from a shorter
    `expires_after`: that would buy standard priority at the flex price.
    """

    start_by: datetime | None
    not_after: datetime | None
    promote_at: datetime | None

    def as_unix(self) -> dict[str, int | None]:
        """Return the deadlines as the API shows them, in Unix seconds."""
        return {"start_by": unix(self.start_by), "not_after": unix(self.not_after)}


def deadlines_of(tier: ServiceTier, moment: datetime, expires_after: int | None = None) -> Deadlines:
    """Return a tier's deadlines for an order accepted at `moment`; `expires_after` is the caller's, in seconds."""
    ends = [moment + tier.deadline] if tier.deadline else []
    is_flex = CLASS_OF_TIER.get(tier.id) == CLASS_OF_TIER["flex"]
    promote_at = max(moment, ends[0] - FLEX_SLACK) if ends and is_flex else None
    if expires_after is not None:
        ends.append(moment + timedelta(seconds=expires_after))
    start_by = moment + tier.start_within if tier.start_within else None
    return Deadlines(start_by=start_by, not_after=min(ends, default=None), promote_at=promote_at)


def deadlines_in_review(moment: datetime, expires_after: int | None) -> Deadlines:
    """Return the deadlines of an order that waits for a review: its caller's own, as its tier's count from then on."""
    not_after = None if expires_after is None else moment + timedelta(seconds=expires_after)
    return Deadlines(start_by=None, not_after=not_after, promote_at=None)


def is_overdue(session: Session, state: str, not_after: datetime | None) -> bool:
    """Return whether a job of this state still waits after its latest start (`not_after`)."""
    return state == JobState.QUEUED and not_after is not None and not_after <= now(session)
