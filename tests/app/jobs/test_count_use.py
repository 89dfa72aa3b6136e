"""Uses are counted in Redis by one round trip: over a sliding window, up to the limit and not beyond."""

import time

import pytest
from redis import Redis

from app.jobs.rate_limits import WINDOW_SECONDS, count_use


@pytest.fixture
def redis(redis_url: str) -> Redis:
    return Redis.from_url(redis_url)


def test_uses_count_up_to_the_limit(redis: Redis) -> None:
    assert [count_use(redis, "a", 3)[:2] for _ in range(5)] == [(True, 2), (True, 1), (True, 0), (False, 0), (False, 0)]
    assert count_use(redis, "b", 3)[:2] == (True, 2), "another account has a limit of its own"
    assert 0 < redis.ttl("cinemeter:uses:a") <= 2 * WINDOW_SECONDS


def test_a_use_is_one_round_trip(redis: Redis) -> None:
    count_use(redis, "a", 3)
    redis.script_flush()
    assert count_use(redis, "a", 3)[:2] == (True, 1), "a Redis that has started anew is sent the script again"
    redis.config_resetstat()
    count_use(redis, "a", 3)
    calls = {name: each["calls"] for name, each in redis.info("commandstats").items()}
    # What the script itself calls within Redis is counted too, and what this test calls.
    inner = {f"cmdstat_{name}" for name in ("time", "hmget", "hset", "expire", "info", "config", "config|resetstat")}
    assert {name: count for name, count in calls.items() if name not in inner} == {"cmdstat_evalsha": 1}


@pytest.mark.parametrize(("age", "previous", "left"), [(30, 100, 49), (45, 100, 74), (45, 400, 0), (500, 400, 99)])
def test_the_window_before_counts_for_its_share(redis: Redis, age: int, previous: int, left: int) -> None:
    """`age`: seconds since the window before ended, in which there were so many uses; the limit is 100."""
    start = time.time() - WINDOW_SECONDS - age - 0.5  # noqa: TID251 — a moment by Redis's clock
    redis.hset("cinemeter:uses:a", mapping={"start": start, "current": previous, "previous": 0})
    allowed, now_left, seconds = count_use(redis, "a", 100)
    assert allowed is (left > 0 or now_left > 0)
    assert abs(now_left - left) <= 3
    assert 1 <= seconds <= WINDOW_SECONDS


def test_a_refused_use_is_counted_after_the_seconds_that_it_was_told(redis: Redis) -> None:
    """Of 90 uses in the window before, 60 count after its first third; a limit of 50 is free after a ninth more."""
    start = time.time() - WINDOW_SECONDS - 20  # noqa: TID251
    redis.hset("cinemeter:uses:a", mapping={"start": start, "current": 90, "previous": 0})
    allowed, _, seconds = count_use(redis, "a", 50)
    assert not allowed
    assert seconds == pytest.approx(WINDOW_SECONDS * (60 - 50) / 90, abs=1.5)
    redis.hset("cinemeter:uses:a", mapping={"start": start - seconds - 0.5})
    assert count_use(redis, "a", 50)[0]


def test_several_uses_are_counted_after_the_seconds_that_they_were_told(redis: Redis) -> None:
    """Ten of ten uses, a second ago: ten more fit once nine tenths of the next window have passed, in 113 seconds."""
    start = time.time() - 1  # noqa: TID251
    redis.hset("cinemeter:uses:a", mapping={"start": start, "current": 10, "previous": 0})
    allowed, _, seconds = count_use(redis, "a", 10, 10)
    assert not allowed
    assert seconds == pytest.approx(WINDOW_SECONDS - 1 + WINDOW_SECONDS * 0.9, abs=1.5)
    redis.hset("cinemeter:uses:a", mapping={"start": start - seconds - 0.5})
    assert count_use(redis, "a", 10, 10)[0]


def test_a_call_is_counted_once(redis: Redis) -> None:
    assert count_use(redis, "a", 10, 10, call="c")[:2] == (True, 0)
    assert count_use(redis, "a", 10, 10, call="c")[:2] == (True, 0)
    assert not count_use(redis, "a", 10, 1, call="another")[0]
    assert not count_use(redis, "a", 10, 1, call="another")[0], "what was refused is counted when it is repeated"
