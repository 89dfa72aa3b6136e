"""Rate limits per key, kept in Redis. Where Redis is away they fail open, with a line in the log."""

import logging
import time
from dataclasses import dataclass
from functools import lru_cache

from limits import RateLimitItemPerMinute
from limits.storage import RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from redis.exceptions import RedisError
from sqlalchemy.orm import Session

from app.accounts.caller import Caller
from app.accounts.memberships import membership_at
from app.bell import is_redis_away, redis_went_away
from app.clock import now
from app.errors import AppError
from app.prices.find import book_at
from app.settings import get_settings

log = logging.getLogger(__name__)

WINDOW_SECONDS = 60
# A membership's limits change rarely; asking the database for them at each request would cost more than it tells.
_REMEMBER_SECONDS = 10.0
_remembered: dict[str, tuple[float, int, int]] = {}


@dataclass(frozen=True)
class Standing:
    """Where a key stands: its limit per minute, what is left, and the seconds until some of it comes back."""

    name: str
    limit: int
    left: int
    reset_seconds: int

    def headers(self) -> dict[str, str]:
        """Return the RateLimit fields of draft-ietf-httpapi-ratelimit-headers-11."""
        return {
            "RateLimit-Policy": f'"{self.name}";q={self.limit};w={WINDOW_SECONDS}',
            "RateLimit": f'"{self.name}";r={self.left};t={self.reset_seconds}',
        }


def limits_of(session: Session, caller: Caller) -> tuple[int, int]:
    """Return the requests and the new jobs that the caller's membership allows per minute."""
    known = _remembered.get(caller.account_id)
    if known is not None and known[0] > time.monotonic():
        return known[1], known[2]
    moment = now(session)
    book = book_at(session, moment).book
    membership = book.memberships.get(membership_at(session, caller.account_id, moment), book.memberships["free"])
    found = (membership.requests_per_minute, membership.jobs_per_minute)
    if len(_remembered) > 10_000:
        _remembered.clear()
    _remembered[caller.account_id] = (time.monotonic() + _REMEMBER_SECONDS, *found)
    return found


@lru_cache(maxsize=1)
def _limiter(redis_url: str) -> SlidingWindowCounterRateLimiter:
    storage = RedisStorage(redis_url, key_prefix="cinemeter:limits", socket_timeout=0.5, socket_connect_timeout=0.5)
    return SlidingWindowCounterRateLimiter(storage)


def take_one(name: str, key_id: str, limit: int) -> Standing | None:
    """Count one use against a key's limit per minute and return where it stands, or None when Redis is away.

    Raises AppError `rate_limited` with `retry_after` in seconds when nothing is left.
    """
    if is_redis_away():
        return None
    item = RateLimitItemPerMinute(limit)
    try:
        limiter = _limiter(get_settings().redis_url)
        allowed = limiter.hit(item, name, key_id)
        window = limiter.get_window_stats(item, name, key_id)
    except (RedisError, OSError) as error:
        redis_went_away()
        log.warning("Rate limits are not kept while Redis is away: %s", error)
        return None
    # The window's end is told as a moment of this machine's clock; only its distance is used.
    reset = max(1, round(window.reset_time - time.time()))  # noqa: TID251 — the library speaks in Unix seconds.
    standing = Standing(name, limit, max(0, window.remaining), min(reset, WINDOW_SECONDS))
    if not allowed:
        message = f"This key may make {limit} {name} a minute; wait {standing.reset_seconds} seconds."
        raise AppError("rate_limited", message, allowed=limit, retry_after=standing.reset_seconds, policy=name)
    return standing
