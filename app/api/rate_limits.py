"""Rate limits per key, kept in Redis. Where Redis is away they fail open, with a line in the log."""

import logging
import time
from dataclasses import dataclass
from functools import lru_cache

from fastapi import Request
from limits import RateLimitItemPerMinute
from limits.storage import RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from redis.exceptions import RedisError
from sqlalchemy.orm import Session

from app.accounts.caller import Caller
from app.accounts.memberships import membership_at
from app.clock import now
from app.errors import AppError
from app.prices.find import book_at
from app.redis_client import is_redis_down, mark_redis_down
from app.settings import get_settings

log = logging.getLogger(__name__)

WINDOW_SECONDS = 60
# A membership's limits change rarely; asking the database for them at each request would cost more than it tells.
_REMEMBER_SECONDS = 10.0
_remembered: dict[str, tuple[float, int, int]] = {}
# A Redis that hangs costs one request this long; it is then left alone for a while (`app.wakeups`).
_TIMEOUT_SECONDS = 0.5


@dataclass(frozen=True)
class LimitStatus:
    """Where a key stands: its limit per minute, what is left, and the seconds until some of it comes back."""

    name: str
    limit: int
    left: int
    reset_seconds: int
    allowed: bool  # whether the use that was asked for fitted in; if not, it was not counted


def rate_limit_headers(standings: list[LimitStatus]) -> dict[str, str]:
    """Return the RateLimit fields (draft-ietf-httpapi-ratelimit-headers-11) of all limits that a request met."""
    if not standings:
        return {}
    return {
        "RateLimit-Policy": ", ".join(f'"{each.name}";q={each.limit};w={WINDOW_SECONDS}' for each in standings),
        "RateLimit": ", ".join(f'"{each.name}";r={each.left};t={each.reset_seconds}' for each in standings),
    }


def count_request(request: Request, session: Session, caller: Caller) -> None:
    """Count a request against its key's limit. Raises AppError `rate_limited`."""
    _spend(request, "requests", caller.via, _limits_of(session, caller)[0])


def count_job(request: Request, session: Session, caller: Caller) -> None:
    """Count an order of a film against its key's limit, at whatever door. Raises AppError `rate_limited`."""
    _spend(request, "jobs", caller.via, _limits_of(session, caller)[1])


def _spend(request: Request, name: str, key_id: str, limit: int) -> None:
    standing = _take_one(name, key_id, limit)
    if standing is None:
        return
    met: list[LimitStatus] = getattr(request.state, "standings", [])
    # Noted before a refusal, so that a 429 tells where its key stands as well.
    request.state.standings = [*met, standing]
    if not standing.allowed:
        message = f"This key may make {limit} {name} a minute; wait {standing.reset_seconds} seconds."
        raise AppError("rate_limited", message, allowed=limit, retry_after=standing.reset_seconds, policy=name)


def _limits_of(session: Session, caller: Caller) -> tuple[int, int]:
    """Return the requests and the new jobs that the caller's membership allows per minute."""
    known = _remembered.get(caller.account_id)
    if known is not None and known[0] > time.monotonic():
        return known[1], known[2]
    moment = now(session)
    book = book_at(session, moment).book
    membership = book.membership(book.known_membership(membership_at(session, caller.account_id, moment)))
    limits = (membership.requests_per_minute, membership.jobs_per_minute)
    if len(_remembered) > 10_000:
        _remembered.clear()
    _remembered[caller.account_id] = (time.monotonic() + _REMEMBER_SECONDS, *limits)
    return limits


@lru_cache(maxsize=1)
def _limiter(redis_url: str) -> SlidingWindowCounterRateLimiter:
    storage = RedisStorage(
        redis_url,
        key_prefix="cinemeter:limits",
        socket_timeout=_TIMEOUT_SECONDS,
        socket_connect_timeout=_TIMEOUT_SECONDS,
    )
    return SlidingWindowCounterRateLimiter(storage)


def _take_one(name: str, key_id: str, limit: int) -> LimitStatus | None:
    """Count one use against a key's limit per minute and return where it stands, or None when Redis is away."""
    if is_redis_down():
        return None
    item = RateLimitItemPerMinute(limit)
    try:
        limiter = _limiter(get_settings().redis_url)
        allowed = limiter.hit(item, name, key_id)
        window = limiter.get_window_stats(item, name, key_id)
    except (RedisError, OSError) as error:
        mark_redis_down()
        log.warning("Rate limits are not kept while Redis is away: %s", error)
        return None
    # The window's end is told as a moment of this machine's clock; only its distance is used.
    reset = max(1, round(window.reset_time - time.time()))  # noqa: TID251 — the library speaks in Unix seconds.
    return LimitStatus(name, limit, max(0, window.remaining), min(reset, WINDOW_SECONDS), allowed)
