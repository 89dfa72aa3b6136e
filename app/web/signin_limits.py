"""Slow down guessing at the sign-in: a few tries per address of a person and of a machine, counted in Redis."""

import hashlib
import logging

from redis.exceptions import RedisError

from app.errors import AppError
from app.redis_client import get_redis

log = logging.getLogger(__name__)

TRIES_MAX = 10
WINDOW_SECONDS = 900


def count_try(*subjects: str) -> None:
    """Count one try for each subject (an e-mail address, an IP address).

    Raises AppError `rate_limited` once a subject has had too many. Where Redis is away nobody is counted: the slow
    password hash still bounds guessing, and people can sign in.
    """
    try:
        redis = get_redis()
        for subject in subjects:
            key = _key(subject)
            tries = int(redis.incr(key))  # type: ignore[arg-type]
            if tries == 1:
                redis.expire(key, WINDOW_SECONDS)
            if tries > TRIES_MAX:
                wait = max(1, int(redis.ttl(key)))  # type: ignore[arg-type]
                message = f"Too many tries. Wait {wait // 60 + 1} minutes and try again."
                raise AppError("rate_limited", message, retry_after=wait)
    except RedisError as error:
        log.warning("Tries at the sign-in are not counted, Redis is away: %s", error)


def clear_tries(subject: str) -> None:
    """Forget a person's tries once they have signed in."""
    try:
        get_redis().delete(_key(subject))
    except RedisError as error:
        log.warning("Tries at the sign-in are not forgotten, Redis is away: %s", error)


def return_try(subject: str) -> None:
    """Take back the try of somebody who was right: colleagues behind one address do not use up each other's.

    It was counted before the password was looked at, so that guesses sent at once are counted too; those that failed
    stay counted.
    """
    try:
        redis = get_redis()
        if int(redis.decr(_key(subject))) <= 0:  # type: ignore[arg-type]
            redis.delete(_key(subject))
    except RedisError as error:
        log.warning("A try at the sign-in is not taken back, Redis is away: %s", error)


def _key(subject: str) -> str:
    return "cinemeter:sign-in:" + hashlib.sha256(subject.encode()).hexdigest()[:24]
