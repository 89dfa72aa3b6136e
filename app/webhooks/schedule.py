"""When a delivery is retried, and when an endpoint is deferred, warned or disabled. Pure rules, no database.

Standard Webhooks' schedule: ten attempts over 75 h 35 m. The delay before an attempt counts from the previous one.
"""

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Literal

from app.net import PostResult

SCHEDULE = tuple(
    timedelta(seconds=seconds) for seconds in (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
)
JITTER = 0.2
RETRY_AFTER_MAX = timedelta(hours=1)
# An overloaded or slow receiver gets a longer delay than the schedule's first step.
BUSY_DELAY_MIN = timedelta(seconds=60)
# A failure on our side is retried soon, without spending an attempt, but not for ever.
OUR_FAULT_DELAY = timedelta(seconds=30)
OUR_FAULT_MAX = timedelta(days=7)

DISABLE_AFTER = timedelta(days=5)
WARN_AT_PERCENT = (50, 70, 90)

BREAKER_FAILURES = 5
BREAKER_PAUSE = timedelta(seconds=15)
BREAKER_PAUSE_MAX = timedelta(minutes=5)

Decision = Literal["delivered", "retry", "defer", "gone", "blocked"]


@dataclass(frozen=True)
class Classification:
    """The consequence of an answer for its delivery and for its endpoint."""

    decision: Decision
    # Whether it counts towards the breaker: the receiver was unreachable or overloaded.
    counts_for_breaker: bool
    # The receiver's Retry-After; at most RETRY_AFTER_MAX.
    retry_after: timedelta | None


def classify_response(answer: PostResult, moment: datetime) -> Classification:
    """Classify an answer. Only 2xx is success; 3xx fails, 410 means that the endpoint is gone for good.

    An address that the guard refused is not retried: it would fail the same way ten times. A failure on our side, such
    as of the egress proxy, spends no attempt.
    """
    if answer.fault in ("proxy_failed", "internal"):
        return Classification("defer", False, None)
    if answer.fault == "blocked":
        return Classification("blocked", False, None)
    if answer.status is None:
        return Classification("retry", True, None)
    if 200 <= answer.status < 300:
        return Classification("delivered", False, None)
    if answer.status == 410:
        return Classification("gone", False, None)
    counts_for_breaker = answer.status == 429 or answer.status >= 500
    return Classification("retry", counts_for_breaker, parse_retry_after(answer.headers.get("retry-after"), moment))


def delay_before_next(
    attempts: int, answer: PostResult, outcome: Classification, *, spread: float | None = None
) -> timedelta | None:
    """Return the delay after the `attempts`-th attempt failed, or None when the schedule is exhausted.

    `spread` in [-1, 1] sets the jitter of ±20 %; None draws it at random. Retry-After may only lengthen the delay.
    """
    if attempts >= len(SCHEDULE):
        return None
    deviation = random.uniform(-1, 1) if spread is None else spread
    delay = SCHEDULE[attempts] * (1 + JITTER * deviation)
    if answer.status == 429 or answer.fault == "timeout":
        delay = max(delay, BUSY_DELAY_MIN)
    return max(delay, outcome.retry_after or timedelta(0))


def breaker_pause(failures_in_row: int) -> timedelta | None:
    """Return the pause of an endpoint after `failures_in_row`, or None while the breaker is closed.

    After the pause one delivery is sent as a probe; each failed probe doubles the pause.
    """
    if failures_in_row < BREAKER_FAILURES:
        return None
    doublings: int = min(failures_in_row - BREAKER_FAILURES, 10)
    return min(BREAKER_PAUSE * (1 << doublings), BREAKER_PAUSE_MAX)


def failing_percent(failing_since: datetime, moment: datetime) -> int:
    """Return how much of DISABLE_AFTER has passed for a failing endpoint, in percent."""
    return min(100, int(100 * (moment - failing_since) / DISABLE_AFTER))


def warning_due(percent: int, warned_percent: int) -> int | None:
    """Return the highest warning mark that `percent` has reached and that was not sent yet."""
    reached = [mark for mark in WARN_AT_PERCENT if warned_percent < mark <= percent]
    return reached[-1] if reached else None


def parse_retry_after(value: str | None, moment: datetime) -> timedelta | None:
    """Parse a Retry-After header (seconds or an HTTP date), clamped to [0, 1 h]; None where it is malformed."""
    if not value:
        return None
    if value.strip().isdecimal():
        # A timedelta cannot hold a number of thousands of digits.
        delay = timedelta(seconds=int(value.strip()[:9]))
    else:
        try:
            delay = parsedate_to_datetime(value) - moment
        except (ValueError, TypeError, OverflowError):  # OverflowError: years that do not fit.
            return None
    return min(max(delay, timedelta(0)), RETRY_AFTER_MAX)
