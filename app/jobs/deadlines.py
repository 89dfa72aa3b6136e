"""What a service tier promises an order: a moment by which it starts, or one after which it is no longer wanted."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from app.jobs.plan import CLASS_OF_TIER
from app.jobs.schemas import unix
from pricing.rules import ServiceTier

# A flex job this close to its tier's deadline is served as standard, so that it still starts in time.
FLEX_SLACK = timedelta(hours=2)


@dataclass(frozen=True)
class Deadlines:
    """The promises of a service tier to an order that is accepted at some moment.

    `start_by` (priority): missed, the tier's line drops from the receipt. `not_after` (flex, or the caller's own
    `expires_after`): an order that has not started by then ends as expired, and is free. `promote_at` (flex): the
    moment from which an order that still waits is served as standard. It follows from what the tier promises, never
    from a shorter time that the caller asked for: that would buy the standard class at the flex price.
    """

    start_by: datetime | None
    not_after: datetime | None
    promote_at: datetime | None

    def shown(self) -> dict[str, int | None]:
        """Return the promises as doors show them, in Unix seconds."""
        return {"start_by": unix(self.start_by), "not_after": unix(self.not_after)}


def deadlines_of(tier: ServiceTier, moment: datetime, expires_after: int | None = None) -> Deadlines:
    """Return what a tier promises to an order accepted at `moment`; `expires_after` is the caller's own, in seconds."""
    ends = [moment + tier.deadline] if tier.deadline else []
    is_flex = CLASS_OF_TIER.get(tier.id) == CLASS_OF_TIER["flex"]
    promote_at = max(moment, ends[0] - FLEX_SLACK) if ends and is_flex else None
    if expires_after is not None:
        ends.append(moment + timedelta(seconds=expires_after))
    start_by = moment + tier.start_within if tier.start_within else None
    return Deadlines(start_by=start_by, not_after=min(ends, default=None), promote_at=promote_at)
