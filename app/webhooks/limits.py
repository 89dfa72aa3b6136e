"""How many deliveries each endpoint may have sent now. Pure rules, no database.

Four limits meet here: the endpoint's deliveries in flight, its rate, its breaker, and the share of an account in the
courier's free places. What is left is dealt out one by one in turns, so that no endpoint waits for another's backlog.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.webhooks.schedule import BREAKER_FAILURES

# An idle endpoint may be sent this much of its rate at once.
BURST = timedelta(seconds=1)


@dataclass(frozen=True)
class EndpointLane:
    """An endpoint that has deliveries due, as far as the limits need to know it."""

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
    """Return how many deliveries this endpoint may have sent at `moment`, seen for itself.

    With an open breaker it is none until the pause is over, and then one: the probe.
    """
    if lane.deferred_until is not None and lane.deferred_until > moment:
        return 0
    places = lane.max_in_flight - lane.in_flight
    if lane.failures_in_row >= BREAKER_FAILURES:
        places = min(places, 1 - lane.in_flight)
    return max(0, min(places, lane.due, _paced(lane, moment)))


def _paced(lane: EndpointLane, moment: datetime) -> int:
    start = pace_start(lane, moment)
    return int((moment - start) / timedelta(seconds=1) * lane.rate_per_second)


def pace_start(lane: EndpointLane, moment: datetime) -> datetime:
    """Return from when on the endpoint's rate is unused, at most one burst ago."""
    earliest = moment - BURST
    return max(lane.paced_until, earliest) if lane.paced_until else earliest


def pace(lane: EndpointLane, sent: int, moment: datetime) -> datetime:
    """Return the new `paced_until` of an endpoint that is sent so many at `moment`."""
    return pace_start(lane, moment) + timedelta(seconds=sent / lane.rate_per_second)


def allocate(
    lanes: Sequence[EndpointLane],
    *,
    free: int,
    account_max: int,
    account_in_flight: Mapping[str, int],
    moment: datetime,
) -> dict[str, int]:
    """Deal `free` places to endpoints in turns and return how many each got; endpoints that get none are left out.

    `lanes` comes with the longest waiting first. No account gets more than `account_max` of the courier's places,
    counting those that it holds already (`account_in_flight`).
    """
    open_places = {lane.endpoint_id: allow(lane, moment) for lane in lanes}
    account_left = {lane.account_id: account_max - account_in_flight.get(lane.account_id, 0) for lane in lanes}
    dealt: dict[str, int] = {}
    in_turn = list(lanes)
    while True:
        in_turn = [
            lane
            for lane in in_turn
            if dealt.get(lane.endpoint_id, 0) < open_places[lane.endpoint_id] and account_left[lane.account_id] > 0
        ]
        if not in_turn or free <= 0:
            return dealt
        for lane in in_turn:
            if free > 0 and account_left[lane.account_id] > 0:
                dealt[lane.endpoint_id] = dealt.get(lane.endpoint_id, 0) + 1
                account_left[lane.account_id] -= 1
                free -= 1
