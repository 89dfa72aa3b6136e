"""The sign-in throttle: counters never exist without an expiry, tries wait in turn, and successes are given back."""

import pytest

from app.errors import AppError
from app.redis_client import get_redis
from app.request_client import machine_of
from app.web.signin_limits import (
    FREE_TRIES,
    FREE_TRIES_OF_MACHINE,
    PAUSE_SECONDS,
    PAUSE_SECONDS_MAX,
    TRIES_MAX,
    WAIT_SECONDS_MAX,
    WINDOW_SECONDS,
    admit_try,
    forget_try,
    limit_tries,
)

PREFIX = "cinemeter:sign-in:"
HERE, THERE = machine_of("198.51.100.1"), machine_of("198.51.100.2")


@pytest.fixture(autouse=True)
def _redis(redis_url: str) -> None:
    """A Redis server of these tests."""


def counters() -> dict[str, tuple[int, int]]:
    """Return the value and the TTL in seconds of every counter; a TTL of -1 means that it never expires."""
    redis = get_redis()
    keys = [key.decode() for key in redis.scan_iter(f"{PREFIX}*")]
    return {key: (int(redis.get(key)), redis.ttl(key)) for key in keys if not key.endswith(":turn")}


def check_ttls() -> None:
    assert all(0 < ttl <= WINDOW_SECONDS for _, ttl in counters().values()), counters()


def waits(count: int, email: str = "alice", machine: str = HERE) -> list[float]:
    return [admit_try(email, machine) for _ in range(count)]


def test_a_counter_has_an_expiry_after_every_step():
    for step in (
        lambda: admit_try("alice", HERE),
        lambda: admit_try("alice", HERE),
        lambda: forget_try("alice", HERE),
        lambda: forget_try("alice", HERE),
        lambda: forget_try("alice", HERE),
        lambda: limit_tries("sign-up:here"),
    ):
        step()
        check_ttls()
    assert [tries for tries, _ in counters().values()] == [1]


def test_tries_after_the_free_ones_wait_one_after_another_and_then_are_refused():
    assert waits(FREE_TRIES) == [0.0] * FREE_TRIES
    first, second = waits(2)
    assert 0 < first <= PAUSE_SECONDS
    assert first < second <= 3 * PAUSE_SECONDS, "it waits for its own pause after that of the try before it"
    with pytest.raises(AppError) as refused:
        waits(10)
    assert refused.value.code == "rate_limited"
    assert 0 < refused.value.facts["retry_after"] <= WAIT_SECONDS_MAX + PAUSE_SECONDS_MAX + 1
    before = counters()
    with pytest.raises(AppError):
        waits(1)
    assert counters().keys() == before.keys()
    assert [tries for tries, _ in counters().values()] == [tries for tries, _ in before.values()], "it is not counted"
    check_ttls()


def test_tries_elsewhere_or_for_others_do_not_wait():
    with pytest.raises(AppError):
        waits(30)
    assert admit_try("alice", THERE) == 0.0
    assert admit_try("bob", HERE) == 0.0
    assert admit_try("alice", "device:0123456789") == 0.0


def test_a_machine_that_guesses_for_many_waits_as_well():
    assert [admit_try(f"guess {number}", HERE) for number in range(FREE_TRIES_OF_MACHINE)] == [0.0] * 20
    assert admit_try("another", HERE) > 0
    assert admit_try("another", THERE) == 0.0


def test_a_success_forgets_the_tries_for_its_own_address_only():
    for number in range(FREE_TRIES_OF_MACHINE - 1):
        admit_try(f"guess {number}", HERE)
    for _ in range(3):
        assert admit_try("alice", HERE) == 0.0
        forget_try("alice", HERE)
    assert admit_try("guess 20", HERE) == 0.0
    assert admit_try("guess 21", HERE) > 0, "its earlier failures stay counted"


def test_later_tries_do_not_extend_the_window():
    admit_try("carol", HERE)
    for key in counters():
        get_redis().expire(key, 100)
    admit_try("carol", HERE)
    assert [(tries, ttl <= 100) for tries, ttl in counters().values()] == [(2, True)] * 2


def test_a_counter_without_expiry_from_an_older_release_gets_one():
    admit_try("dora", HERE)
    for key in counters():
        get_redis().set(key, 3)
    admit_try("dora", HERE)
    check_ttls()


def test_what_is_not_queued_is_refused_until_its_window_ends():
    for _ in range(TRIES_MAX):
        limit_tries("sign-up:here")
    with pytest.raises(AppError) as refused:
        limit_tries("sign-up:here")
    assert refused.value.code == "rate_limited"
    limit_tries("sign-up:there")


@pytest.mark.parametrize(
    ("address", "machine"),
    [
        ("198.51.100.7", "machine:198.51.100.7"),
        ("::ffff:198.51.100.7", "machine:198.51.100.7"),
        ("2001:db8:1:2:3:4:5:6", "machine:2001:db8:1:2::/64"),
        ("testclient", "machine:testclient"),
    ],
)
def test_a_customer_of_ipv6_counts_as_one_machine(address: str, machine: str):
    assert machine_of(address) == machine
