"""This process's Redis client, and whether Redis has failed a moment ago."""

import time
from functools import lru_cache

from redis import Redis

from app.settings import get_settings

# What Redis is asked for is a courtesy: a ring, a note of progress, a count. One that did not answer is left alone for
# so long, because each call that waits for it holds up an order, and the session that the order is made in.
AWAY_SECONDS = 5.0
TIMEOUT_SECONDS = 2.0
_away_until: dict[str, float] = {}


def is_redis_away() -> bool:
    """Return whether Redis has failed a moment ago, so that it is not worth waiting for."""
    return _away_until.get(get_settings().redis_url, 0.0) > time.monotonic()


def redis_went_away() -> None:
    """Remember that Redis did not answer."""
    _away_until[get_settings().redis_url] = time.monotonic() + AWAY_SECONDS


@lru_cache(maxsize=1)
def get_redis() -> Redis:
    """Return this process's Redis client; a call fails within two seconds rather than hang."""
    return Redis.from_url(
        get_settings().redis_url,
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
        health_check_interval=10,
    )
