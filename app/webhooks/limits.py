"""How many deliveries may be sent to each endpoint now. Pure rules, no database.

Four limits apply: the endpoint's deliveries in flight, its rate, its breaker, and the share of an account in the
courier's free slots. Slots are allocated round-robin, so that no endpoint waits for another's backlog.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.webhooks.schedule import BREAKER_FAILURES

# An idle endpoint may receive this much of its rate at once.
BURST = timedelta(seconds=1)


@dataclass(frozen=True)
class EndpointLane:
    """The facts about an endpoint with due deliveries that the limits need."""

    endpoint_id: str
    account_id: str
    due: int  # deliveries due, counted up to a bound
    in_flight: int
    max_in_flight: int
    rate_per_second: int
    paced_until: datetime | None
    failures_in_row: int
    deferred_until: datetime | None


def allow(lane: EndpointLane, moment: datetime) -> int:
    """Return how many deliveries may be sent to this endpoint at `moment`, regardless of other endpoints.

    With an open breaker it is 0 until the pause is over, and then 1: the probe.
    """
    if lane.deferred_until is not None and lane.deferred_until > moment:
        return 0
    slots = lane.max_in_flight - lane.in_flight
    if lane.failures_in_row >= BREAKER_FAILURES:
        slots = min(slots, 1 - lane.in_flight)
    return max(0, min(slots, lane.due, _rate_allows(lane, moment)))


def _rate_allows(lane: EndpointLane, moment: datetime) -> int:
    start = unused_since(lane, moment)
    return int((moment - start) / timedelta(seconds=1) * lane.rate_per_second)


def unused_since(lane: EndpointLane, moment: datetime) -> datetime:
    """Return the moment since which the endpoint's rate is unused, at most one burst ago."""
    earliest = moment - BURST
    return max(lane.paced_until, earliest) if lane.paced_until else earliest


def paced_until(lane: EndpointLane, count: int, moment: datetime) -> datetime:
    """Return the new `paced_until` of an endpoint that receives `count` deliveries at `moment`."""
    return unused_since(lane, moment) + timedelta(seconds=count / lane.rate_per_second)


def allocate(
    lanes: Sequence[EndpointLane],
    *,
    free: int,
    account_max: int,
    account_in_flight: Mapping[str, int],
    moment: datetime,
) -> dict[str, int]:
    """Allocate `free` slots to endpoints round-robin and return the slots of each; endpoints without are left out.

    `lanes` is sorted with the longest waiting first. No account gets more than `account_max` of the courier's slots,
    counting those that it holds already (`account_in_flight`).
    """
    open_slots = {lane.endpoint_id: allow(lane, moment) for lane in lanes}
    account_left = {lane.account_id: account_max - account_in_flight.get(lane.account_id, 0) for lane in lanes}
    allocated: dict[str, int] = {}
    in_turn = list(lanes)
    while True:
        in_turn = [
            lane
            for lane in in_turn
            if allocated.get(lane.endpoint_id, 0) < open_slots[lane.endpoint_id] and account_left[lane.account_id] > 0
        ]
        if not in_turn or free <= 0:
            return allocated
        for lane in in_turn:
            if free > 0 and account_left[lane.account_id] > 0:
                allocated[lane.endpoint_id] = allocated.get(lane.endpoint_id, 0) + 1
                account_left[lane.account_id] -= 1
                free -= 1
