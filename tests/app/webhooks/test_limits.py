from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from app.webhooks.limits import EndpointLane, allocate, allow, paced_until

NOON = datetime(2026, 4, 27, 12, tzinfo=UTC)
LANE = EndpointLane("whe_a", "acct_a", 100, 0, 10, 100, None, 0, None)

lanes = st.builds(
    EndpointLane,
    endpoint_id=st.uuids().map(str),
    account_id=st.sampled_from(["acct_a", "acct_b", "acct_c"]),
    due=st.integers(0, 100),
    in_flight=st.integers(0, 20),
    max_in_flight=st.integers(1, 20),
    rate_per_second=st.integers(1, 50),
    paced_until=st.none() | st.integers(-5, 5).map(lambda seconds: NOON + timedelta(seconds=seconds)),
    failures_in_row=st.integers(0, 8),
    deferred_until=st.none() | st.integers(-5, 5).map(lambda seconds: NOON + timedelta(seconds=seconds)),
)


def shares(
    *lanes: EndpointLane, free: int = 100, account_max: int = 100, in_flight: dict[str, int] | None = None
) -> dict[str, int]:
    return allocate(lanes, free=free, account_max=account_max, account_in_flight=in_flight or {}, moment=NOON)


def test_an_endpoint_gets_what_its_places_allow():
    assert allow(LANE, NOON) == 10
    assert allow(replace(LANE, in_flight=7), NOON) == 3
    assert allow(replace(LANE, in_flight=12), NOON) == 0
    assert allow(replace(LANE, due=2), NOON) == 2


def test_an_open_breaker_lets_nothing_out_and_then_one_probe():
    broken = replace(LANE, failures_in_row=5, deferred_until=NOON + timedelta(seconds=1))
    assert allow(broken, NOON) == 0
    assert allow(broken, NOON + timedelta(seconds=1)) == 1
    assert allow(replace(broken, in_flight=1), NOON + timedelta(seconds=1)) == 0


def test_retry_after_pauses_without_opening_the_breaker():
    deferred = replace(LANE, deferred_until=NOON + timedelta(seconds=30))
    assert allow(deferred, NOON) == 0
    assert allow(deferred, NOON + timedelta(seconds=30)) == 10


def test_the_rate_applies_over_time():
    lane = replace(LANE, rate_per_second=5, max_in_flight=100)
    moment, total = NOON, 0
    for _ in range(100):
        allowed = allow(lane, moment)
        total += allowed
        if allowed:
            lane = replace(lane, paced_until=paced_until(lane, allowed, moment))
        moment += timedelta(milliseconds=100)
    # Ten seconds at five per second, and one second's burst before.
    assert 50 <= total <= 55


def test_places_are_allocated_in_turns():
    long, short = LANE, replace(LANE, endpoint_id="whe_b", account_id="acct_b", due=2)
    assert shares(long, short, free=6) == {"whe_a": 4, "whe_b": 2}
    assert shares(long, short, free=1) == {"whe_a": 1}


def test_an_account_with_many_endpoints_leaves_places_to_others():
    greedy = [replace(LANE, endpoint_id=f"whe_{number}") for number in range(50)]
    other = replace(LANE, endpoint_id="whe_other", account_id="acct_b")
    allocated = shares(*greedy, other, free=100, account_max=50)
    assert allocated["whe_other"] == 10
    assert sum(allocated.values()) == 60
    assert shares(*greedy, other, free=100, account_max=50, in_flight={"acct_a": 50}) == {"whe_other": 10}


@settings(deadline=None)
@given(st.lists(lanes, max_size=12, unique_by=lambda lane: lane.endpoint_id), st.integers(0, 40), st.integers(1, 30))
def test_no_limit_is_ever_exceeded_and_no_place_is_wasted(lanes: list[EndpointLane], free: int, account_max: int):
    allocated = shares(*lanes, free=free, account_max=account_max)
    by_id = {lane.endpoint_id: lane for lane in lanes}
    assert sum(allocated.values()) <= free
    assert all(0 < count <= allow(by_id[identifier], NOON) for identifier, count in allocated.items())
    by_account: dict[str, int] = {}
    for identifier, count in allocated.items():
        by_account[by_id[identifier].account_id] = by_account.get(by_id[identifier].account_id, 0) + count
    assert all(count <= account_max for count in by_account.values())
    if sum(allocated.values()) < free:
        for lane in lanes:
            full = allocated.get(lane.endpoint_id, 0) == allow(lane, NOON)
            assert full or by_account.get(lane.account_id, 0) == account_max
