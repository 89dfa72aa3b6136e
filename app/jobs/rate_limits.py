"""Rate limits of accounts, kept in Redis. While Redis is unavailable they fail open, with a line in the log.

An account's keys and its members on pages count together, so that neither a second key nor the one that replaces it
has a minute of its own. Test jobs cost nothing and count by themselves, against a part of the limit.
"""

import hashlib
import logging
import time
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files
from typing import Any

from redis import Redis
from redis.exceptions import NoScriptError, RedisError
from sqlalchemy.orm import Session
from starlette.requests import Request

from app.accounts.caller import Caller
from app.accounts.memberships import membership_at
from app.clock import now
from app.db import commit_early
from app.errors import AppError
from app.jobs.idempotency import OrderIdentity, earlier_job, scoped_key
from app.jobs.order_restraints import restraint
from app.logs import add_log_ids
from app.moderation.policy import moderation_policy
from app.moderation.repeaters import scope_of
from app.prices.find import book_at
from app.redis_client import is_redis_down, mark_redis_down
from app.request_client import machine_of
from app.roles import ADMIN_ROLES, Scope
from app.settings import get_settings

log = logging.getLogger(__name__)

WINDOW_SECONDS = 60
OPERATOR_REQUESTS_PER_MINUTE = 6_000
# Test jobs get this part of each limit: one half.
TEST_SHARE = 2
# The limit of whoever repeats refused orders.
_SLOWED = "slowed"
# A membership's limits change rarely, so they are not read from the database at every request.
_CACHE_SECONDS = 10.0
_cache: dict[str, tuple[float, int, int]] = {}
# By the hash of an API key that was authenticated: until when that is remembered, its account, whether it is a test
# key, and its requests per minute. A client that polls rarely is known by its second poll.
_known_keys: dict[bytes, tuple[float, str, bool, int]] = {}
_KNOWN_SECONDS = 60.0
_KEY_PREFIX = "cinemeter:uses"
_COUNT_USE = files("app.jobs").joinpath("count_use.lua").read_text()
_COUNT_USE_SHA = hashlib.sha1(_COUNT_USE.encode(), usedforsecurity=False).hexdigest()
# A Redis that hangs delays one request by this long; after that it is not used for a while (`app.redis_client`).
_TIMEOUT_SECONDS = 0.5


@dataclass(frozen=True)
class LimitStatus:
    """The state of one limit: uses per minute, uses left, and the seconds until some are restored."""

    name: str
    limit: int
    left: int
    reset_seconds: int
    allowed: bool  # False if too little of the limit was left; then nothing was counted


def rate_limit_headers(statuses: list[LimitStatus]) -> dict[str, str]:
    """Return the RateLimit fields (draft-ietf-httpapi-ratelimit-headers-11) of the limits that counted a request."""
    if not statuses:
        return {}
    return {
        "RateLimit-Policy": ", ".join(f'"{each.name}";q={each.limit};w={WINDOW_SECONDS}' for each in statuses),
        "RateLimit": ", ".join(f'"{each.name}";r={each.left};t={each.reset_seconds}' for each in statuses),
    }


def count_known_key(request: Request, key: str) -> bool:
    """Count a request before its session is used, if its API key was authenticated within the last minute.

    Returns whether it was counted; otherwise `count_request` does it. Raises AppError `rate_limited`.
    """
    expires_at, account_id, test, limit = _known_keys.get(_digest(key), (0.0, "", False, 0))
    if expires_at <= time.monotonic():
        return False
    add_log_ids(account_id=account_id)  # Also on the line of a request that is refused before it is authenticated.
    _count(request, "requests", account_id, test=test, limit=limit)
    return True


def count_request(request: Request, session: Session, caller: Caller, key: str) -> None:
    """Count a request with an authenticated API key against its account's limit. Raises AppError `rate_limited`.

    What the session has done before is committed first: Redis may be slow.
    """
    limit = _limits_of(session, caller)[0]
    # Whoever runs the service holds no membership; an installation is not run at the pace of a trial.
    if Scope.ADMIN in caller.scopes and caller.roles & ADMIN_ROLES:
        limit = max(limit, OPERATOR_REQUESTS_PER_MINUTE)
    commit_early(session)
    if len(_known_keys) > 10_000:
        _known_keys.clear()
    _known_keys[_digest(key)] = (time.monotonic() + _KNOWN_SECONDS, caller.account_id, caller.test, limit)
    _count(request, "requests", caller.account_id, test=caller.test, limit=limit)


def count_order(
    request: Request, session: Session, caller: Caller, films: int = 1, *, call: tuple[str, str] | None = None
) -> None:
    """Count an order of so many films against its account's limit, at any interface: all of them or none.

    `call` are the stored idempotency key and the fingerprint of an order: repeated within two minutes, it is not
    counted again. What the session has done before is committed first: Redis may be slow. Raises AppError
    `rate_limited`, `orders_stopped`, and `invalid_request` as `check_films` does.
    """
    limit = _limits_of(session, caller)[1]
    is_slowed = restraint(session, caller).is_slowed
    commit_early(session)
    check_films(session, caller, films)
    digest = None if call is None else _digest("\n".join([*call, str(films)])).hex()
    if is_slowed:
        _count_slowed(caller, films, digest)
    _count(request, "jobs", caller.account_id, test=caller.test, limit=limit, uses=films, call=digest)


def count_call(request: Request, session: Session, caller: Caller, order: OrderIdentity) -> None:
    """Count an order as it was called; one with an idempotency key is counted once, however often it is repeated soon.

    A call that was accepted before is answered as it was, whatever restrains the account's orders by now. Raises
    AppError as `count_order` does.
    """
    key = scoped_key(caller, order)
    call = None if key is None else (key, order.fingerprint)
    try:
        count_order(request, session, caller, order.request.films, call=call)
    except AppError as error:
        is_restrained = error.code == "orders_stopped" or error.facts.get("policy") == _SLOWED
        if not is_restrained or earlier_job(session, caller, replace(order, is_first_try=False)) is None:
            raise


def _count_slowed(caller: Caller, films: int, call: str | None) -> None:
    """Count an order of whoever repeats refused ones. Raises AppError `rate_limited` and `invalid_request`.

    Those of a test key, of a project's keys and of all others are limited apart.
    """
    limit = moderation_policy().repeaters.slow_per_minute
    if films > limit:
        message = f"Many orders were refused today, so no order of this key may be for more than {limit} jobs."
        raise AppError("invalid_request", message, field="n", allowed=[1, limit], policy=_SLOWED)
    subject = f"{caller.account_id}:{scope_of(caller.project_id)}:{'test' if caller.test else 'live'}"
    status = _count_uses(_SLOWED, subject, limit, films, call)
    if status is not None and not status.allowed:
        message = (
            f"Many orders were refused today, so orders of this key are limited to {limit} jobs per minute. Retry in "
            f"{status.reset_seconds} seconds."
        )
        raise AppError("rate_limited", message, allowed=limit, retry_after=status.reset_seconds, policy=_SLOWED)


def count_stranger(request: Request, name: str, limit: int) -> None:
    """Count a request without a key against a limit per minute of the address that it comes from.

    Raises AppError `rate_limited`.
    """
    address = machine_of(request.client.host if request.client else "unknown")
    status = _count_uses(name, hashlib.sha256(address.encode()).hexdigest()[:24], limit, 1, None)
    if status is None:
        return
    request.state.limit_statuses = [status]
    if not status.allowed:
        message = f"This network is limited to {limit} {name} per minute. Retry in {status.reset_seconds} seconds."
        raise AppError("rate_limited", message, allowed=limit, retry_after=status.reset_seconds, policy=name)


def check_films(session: Session, caller: Caller, films: int) -> None:
    """Raise AppError `invalid_request` for more films than the account may order in a minute at all."""
    if films == 1:
        return
    limit = _limits_of(session, caller)[1]
    most = share_of_tests(limit) if caller.test else limit
    if films > most:
        message = f"The account is limited to {most} jobs per minute, so no order may be for {films}."
        raise AppError("invalid_request", message, field="n", allowed=[1, most])


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def share_of_tests(limit: int) -> int:
    """Return the part of an account's limit that is for its test jobs."""
    return max(1, limit // TEST_SHARE)


def _count(
    request: Request, name: str, account_id: str, *, test: bool, limit: int, uses: int = 1, call: str | None = None
) -> None:
    if test:
        limit = share_of_tests(limit)
    status = _count_uses(name, f"{account_id}:{'test' if test else 'live'}", limit, uses, call)
    if status is None:
        return
    statuses: list[LimitStatus] = getattr(request.state, "limit_statuses", [])
    # Stored before the error is raised, so that a 429 response has the headers too.
    request.state.limit_statuses = [*statuses, status]
    if not status.allowed:
        mode = "test " if test else ""
        message = f"The account is limited to {limit} {mode}{name} per minute. Retry in {status.reset_seconds} seconds."
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
def _redis(redis_url: str) -> Redis:
    return Redis.from_url(redis_url, socket_timeout=_TIMEOUT_SECONDS, socket_connect_timeout=_TIMEOUT_SECONDS)


def count_use(redis: Redis, key: str, limit: int, uses: int = 1, *, call: str | None = None) -> tuple[bool, int, int]:
    """Count uses of `key` against a limit per minute, all or none, by one round trip to Redis.

    `call` names whose uses they are; repeated within two minutes, it is allowed and not counted again. Returns whether
    they are allowed, the uses left, and after how many seconds one more will be, or refused ones will be allowed: at
    most 120. Raises RedisError.
    """
    keys = [f"{_KEY_PREFIX}:{key}", *([] if call is None else [f"{_KEY_PREFIX}:{key}:{call}"])]
    arguments: list[Any] = [*keys, limit, WINDOW_SECONDS, uses]
    try:
        answer: Any = redis.evalsha(_COUNT_USE_SHA, len(keys), *arguments)
    except NoScriptError:
        # Redis has started anew; this sends the script again and keeps it.
        answer = redis.eval(_COUNT_USE, len(keys), *arguments)
    allowed, left, seconds = answer
    return bool(allowed), left, seconds


def _count_uses(name: str, subject: str, limit: int, uses: int, call: str | None) -> LimitStatus | None:
    """Count uses against a limit per minute; return its status, or None while Redis is unavailable."""
    if is_redis_down():
        return None
    try:
        allowed, left, seconds = count_use(
            _redis(get_settings().redis_url), f"{name}:{subject}", limit, uses, call=call
        )
    except (RedisError, OSError) as error:
        mark_redis_down()
        log.warning("Rate limits are not enforced while Redis is away: %s", error)
        return None
    return LimitStatus(name, limit, left, seconds, allowed)
