"""The sign-in throttle: counters never exist without an expiry, and tries are given back."""

import pytest

from app.errors import AppError
from app.redis_client import get_redis
from app.web.signin_limits import TRIES_MAX, WINDOW_SECONDS, clear_tries, count_try, return_try

PREFIX = "cinemeter:sign-in:"


@pytest.fixture(autouse=True)
def _redis(redis_url: str) -> None:
    """A Redis server of these tests."""


def counters() -> dict[str, tuple[int, int]]:
    """Return the value and the TTL in seconds of every counter; a TTL of -1 means that it never expires."""
    redis = get_redis()
    return {key.decode(): (int(redis.get(key)), redis.ttl(key)) for key in redis.scan_iter(f"{PREFIX}*")}


def check_ttls() -> None:
    assert all(0 < ttl <= WINDOW_SECONDS for _, ttl in counters().values()), counters()


def test_a_counter_has_an_expiry_after_every_step():
    for step in (
        lambda: count_try("member:a", "machine:1"),
        lambda: count_try("member:a", "machine:1"),
        lambda: return_try("machine:1"),
        lambda: return_try("machine:1"),
        lambda: return_try("machine:1"),
        lambda: count_try("machine:1"),
        lambda: clear_tries("member:a"),
        lambda: return_try("member:a"),
    ):
        step()
        check_ttls()
    assert [tries for tries, _ in counters().values()] == [1]


def test_too_many_tries_are_refused_until_the_window_ends():
    for _ in range(TRIES_MAX):
        count_try("member:b")
    with pytest.raises(AppError) as refused:
        count_try("member:b")
    assert refused.value.code == "rate_limited"
    assert 0 < refused.value.facts["retry_after"] <= WINDOW_SECONDS
    check_ttls()
    return_try("member:b")
    clear_tries("member:b")
    count_try("member:b")


def test_later_tries_do_not_extend_the_window():
    count_try("member:c")
    [key] = counters()
    get_redis().expire(key, 100)
    count_try("member:c")
    return_try("member:c")
    [(tries, ttl)] = counters().values()
    assert (tries, ttl <= 100) == (1, True)


@pytest.mark.parametrize("change", [count_try, return_try])
def test_a_counter_without_expiry_from_an_older_release_gets_one(change):
    count_try("member:d")
    [key] = counters()
    get_redis().set(key, TRIES_MAX - 2)
    assert counters()[key][1] == -1
    change("member:d")
    check_ttls()
