"""Rate limits per key, kept in Redis. While Redis is unavailable they fail open, with a line in the log."""

import hashlib
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
from app.db import commit_early
from app.errors import AppError
from app.prices.find import book_at
from app.redis_client import is_redis_down, mark_redis_down
from app.settings import get_settings

log = logging.getLogger(__name__)

WINDOW_SECONDS = 60
# A membership's limits change rarely, so they are not read from the database at every request.
_CACHE_SECONDS = 10.0
_cache: dict[str, tuple[float, int, int]] = {}
# By the hash of an API key that was authenticated: until when that is remembered, its id, and its requests per minute.
_known_keys: dict[bytes, tuple[float, str, int]] = {}
# A Redis that hangs delays one request by this long; after that it is not used for a while (`app.redis_client`).
_TIMEOUT_SECONDS = 0.5


@dataclass(frozen=True)
class LimitStatus:
    """The state of one limit: uses per minute, uses left, and the seconds until some are restored."""

    name: str
    limit: int
    left: int
    reset_seconds: int
    allowed: bool  # False if the limit was used up; the request was then not counted


def rate_limit_headers(statuses: list[LimitStatus]) -> dict[str, str]:
    """Return the RateLimit fields (draft-ietf-httpapi-ratelimit-headers-11) of the limits that counted a request."""
    if not statuses:
        return {}
    return {
        "RateLimit-Policy": ", ".join(f'"{each.name}";q={each.limit};w={WINDOW_SECONDS}' for each in statuses),
        "RateLimit": ", ".join(f'"{each.name}";r={each.left};t={each.reset_seconds}' for each in statuses),
    }


def count_known_key(request: Request, key: str) -> bool:
    """Count a request before its session is used, if its API key was authenticated within the last seconds.

    Returns whether it was counted; otherwise `count_request` does it. Raises AppError `rate_limited`.
    """
    expires_at, key_id, limit = _known_keys.get(_digest(key), (0.0, "", 0))
    if expires_at <= time.monotonic():
        return False
    _count(request, "requests", key_id, limit)
    return True


def count_request(request: Request, session: Session, caller: Caller, key: str) -> None:
    """Count a request against the limit of its authenticated API key. Raises AppError `rate_limited`.

    What the session has done before is committed first: Redis may be slow.
    """
    limit = _limits_of(session, caller)[0]
    commit_early(session)
    if len(_known_keys) > 10_000:
        _known_keys.clear()
    _known_keys[_digest(key)] = (time.monotonic() + _CACHE_SECONDS, caller.via, limit)
    _count(request, "requests", caller.via, limit)


def count_job(request: Request, session: Session, caller: Caller) -> None:
    """Count an order of a film against its key's limit, at any interface. Raises AppError `rate_limited`.

    What the session has done before is committed first: Redis may be slow.
    """
    limit = _limits_of(session, caller)[1]
    commit_early(session)
    _count(request, "jobs", caller.via, limit)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _count(request: Request, name: str, key_id: str, limit: int) -> None:
    status = _count_one(name, key_id, limit)
    if status is None:
        return
    statuses: list[LimitStatus] = getattr(request.state, "limit_statuses", [])
    # Stored before the error is raised, so that a 429 response has the headers too.
    request.state.limit_statuses = [*statuses, status]
    if not status.allowed:
        message = f"This key is limited to {limit} {name} per minute. Retry in {status.reset_seconds} seconds."
        raise AppError("rate_limited", message, allowed=limit, retry_after=status.reset_seconds, policy=name)


def _limits_of(session: Session, caller: Caller) -> tuple[int, int]:
    """Return the requests and the new jobs that the caller's membership allows per minute."""
    known = _cache.get(caller.account_id)
    if known is not None and known[0] > time.monotonic():
        return known[1], known[2]
    moment = now(session)
    book = book_at(session, moment).book
    membership = book.membership(book.known_membership(membership_at(session, caller.account_id, moment)))
    limits = (membership.requests_per_minute, membership.jobs_per_minute)
    if len(_cache) > 10_000:
        _cache.clear()
    _cache[caller.account_id] = (time.monotonic() + _CACHE_SECONDS, *limits)
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


def _count_one(name: str, key_id: str, limit: int) -> LimitStatus | None:
    """Count one use against a key's limit per minute; return its status, or None while Redis is unavailable."""
    if is_redis_down():
        return None
    item = RateLimitItemPerMinute(limit)
    try:
        limiter = _limiter(get_settings().redis_url)
        allowed = limiter.hit(item, name, key_id)
        window = limiter.get_window_stats(item, name, key_id)
    except (RedisError, OSError) as error:
        mark_redis_down()
        log.warning("Rate limits are not enforced while Redis is away: %s", error)
        return None
    # The window's end is a time on this machine's clock; only the difference is used.
    reset = max(1, round(window.reset_time - time.time()))  # noqa: TID251 — the library uses Unix seconds.
    return LimitStatus(name, limit, max(0, window.remaining), min(reset, WINDOW_SECONDS), allowed)
