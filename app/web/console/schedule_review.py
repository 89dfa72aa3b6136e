"""The page between the schedule button and new prices: what changes, from when, for whom.

It is a page and not a dialog, because the review must not depend on scripts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from fastapi import Request, Response

from app.web.render import page


@dataclass(frozen=True)
class PriceChange:
    """One price per second that changes, as text; `percent` is empty where there was no price before."""

    what: str
    before: str
    after: str
    percent: str | None = None


@dataclass(frozen=True)
class ScheduleReview:
    """What scheduling changes: from `at` on these prices, for an account or (empty) for everybody.

    `effective_at` is the form's own text, which the confirmation submits again to `action`.
    """

    title: str
    at: datetime
    account: str
    changes: Sequence[PriceChange]
    action: str
    back: str
    effective_at: str


def review_page(request: Request, review: ScheduleReview) -> Response:
    """Return the review page."""
    return page(request, "console/schedule_review.html", title=review.title, review=review)
