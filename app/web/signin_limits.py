"""Limit password guessing: a few sign-in tries per e-mail and per client IP, counted in Redis.

Each change of a counter is one Lua script, so that a counter never exists without an expiry: a process that dies
between an INCR and an EXPIRE would lock its subject out for good.
"""

import hashlib
import logging
from typing import cast

from redis.exceptions import RedisError

from app.errors import AppError
from app.redis_client import get_redis

log = logging.getLogger(__name__)

TRIES_MAX = 10
WINDOW_SECONDS = 900

# The window begins with the first try. A counter without an expiry (TTL below 0), as older releases could leave one
# behind, gets a window of its own.
_COUNT = """
local tries = redis.call('INCR', KEYS[1])
if redis.call('TTL', KEYS[1]) < 0 then redis.call('EXPIRE', KEYS[1], ARGV[1]) end
return {tries, redis.call('TTL', KEYS[1])}
"""
_RETURN = """
local tries = tonumber(redis.call('GET', KEYS[1]) or '0')
if tries <= 1 then return redis.call('DEL', KEYS[1]) end
redis.call('DECR', KEYS[1])
if redis.call('TTL', KEYS[1]) < 0 then redis.call('EXPIRE', KEYS[1], ARGV[1]) end
return tries - 1
"""


def count_try(*subjects: str) -> None:
    """Count one try for each subject (`member:` and an e-mail, `machine:` and an IP address).

    Raises AppError `rate_limited` when a subject has had more than TRIES_MAX tries in its window. Tries are not counted
    while Redis is unavailable: the slow password hash still bounds guessing, and people can sign in.
    """
    try:
        for subject in subjects:
            tries, wait = cast("list[int]", get_redis().eval(_COUNT, 1, _key(subject), WINDOW_SECONDS))
            if tries > TRIES_MAX:
                wait = max(1, wait)
                message = f"Too many tries. Wait {wait // 60 + 1} minutes and try again."
                raise AppError("rate_limited", message, retry_after=wait)
    except RedisError as error:
        log.warning("Sign-in tries are not counted, Redis is unavailable: %s", error)


def clear_tries(subject: str) -> None:
    """Delete a subject's counter, as after a successful sign-in."""
    try:
        get_redis().delete(_key(subject))
    except RedisError as error:
        log.warning("Sign-in tries are not cleared, Redis is unavailable: %s", error)


def return_try(subject: str) -> None:
    """Give back the try of a successful sign-in, so that people behind one IP address do not use up each other's.

    The try was counted before the password was checked, so that concurrent guesses are counted too; failed tries stay
    counted.
    """
    try:
        get_redis().eval(_RETURN, 1, _key(subject), WINDOW_SECONDS)
    except RedisError as error:
        log.warning("A sign-in try is not given back, Redis is unavailable: %s", error)


def _key(subject: str) -> str:
    return "cinemeter:sign-in:" + hashlib.sha256(subject.encode()).hexdigest()[:24]
