"""What a service tier promises an order: a moment by which it starts, or one after which it is no longer wanted."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from app.jobs.shapes import unix
from pricing.rules import ServiceTier


@dataclass(frozen=True)
class Promises:
    """The promises of a service tier to an order that is accepted at some moment.

    `start_by` (priority): missed, the tier's line drops from the receipt. `not_after` (flex, or the caller's own
    `expires_after`): an order that has not started by then ends as expired, and is free.
    """

    start_by: datetime | None
    not_after: datetime | None

    def shown(self) -> dict[str, int | None]:
        """Return the promises as doors show them, in Unix seconds."""
        return {"start_by": unix(self.start_by), "not_after": unix(self.not_after)}


def promises(tier: ServiceTier, moment: datetime, expires_after: int | None = None) -> Promises:
    """Return what a tier promises to an order accepted at `moment`; `expires_after` is the caller's own, in seconds."""
    ends = [moment + tier.deadline] if tier.deadline else []
    if expires_after is not None:
        ends.append(moment + timedelta(seconds=expires_after))
    return Promises(moment + tier.start_within if tier.start_within else None, min(ends, default=None))
