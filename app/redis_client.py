"""This process's Redis client, and whether Redis has failed recently."""

import time
from functools import lru_cache

from redis import Redis

from app.settings import get_settings

# Redis carries only what the service can do without: wake-ups, progress, counts. After a failure it is not called for
# so long, because each call that waits for it delays an order and holds the order's database session.
DOWN_SECONDS = 5.0
TIMEOUT_SECONDS = 2.0
_down_until: dict[str, float] = {}


def is_redis_down() -> bool:
    """Return whether Redis has failed within the last DOWN_SECONDS, so that calls should be skipped."""
    return _down_until.get(get_settings().redis_url, 0.0) > time.monotonic()


def mark_redis_down() -> None:
    """Record that Redis did not answer."""
    _down_until[get_settings().redis_url] = time.monotonic() + DOWN_SECONDS


@lru_cache(maxsize=1)
def get_redis() -> Redis:
    """Return this process's Redis client; a call fails within TIMEOUT_SECONDS instead of hanging."""
    return Redis.from_url(
        get_settings().redis_url,
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
        health_check_interval=10,
    )
