"""What a day costs who knows all of its orders beforehand, with the same cold start."""

import heapq
from bisect import bisect_left, bisect_right, insort
from collections import defaultdict

from tests.autoscaling.demand import Demand
from tests.autoscaling.pool import COLD_START
from tests.autoscaling.wanted import Horizons

AT_ONCE = Horizons(0, 0)


def oracle_gpu_seconds(demand: Demand, patience: Horizons = AT_ONCE) -> float:
    """Return the GPU-seconds of workers that start each unit no later than so many seconds after it may start.

    Each account's units may start as they come, up to its concurrency. A worker is started a cold start before it is
    needed, and is kept over a gap that is shorter than another cold start. A unit goes to the worker that became free
    last, which leaves the longest gaps to the others; else to the one that is free first within its patience; else to
    one that is started for it. Flex work is assumed to fill gaps: it costs its own seconds. No plan costs less than
    `least_gpu_seconds`, however long it lets others wait.
    """
    total = sum(sum(order.units) for order in demand.orders if order.priority == 2)
    free_at: list[float] = []  # when each worker has ended its last unit, in order
    ends: dict[str, list[float]] = defaultdict(list)
    for order in demand.orders:
        if order.priority == 2:
            continue
        running = ends[order.account]
        wait = patience.priority if order.priority == 0 else patience.standard
        for seconds in order.units:
            at = order.at
            if len(running) >= demand.concurrency[order.account]:
                at = max(at, heapq.heappop(running))
            begin, cost = _place(free_at, at, wait)
            insort(free_at, begin + seconds)
            heapq.heappush(running, begin + seconds)
            total += cost + seconds
    return total


def _place(free_at: list[float], at: float, wait: float) -> tuple[float, float]:
    """Take a worker for a unit out of the list; return when it begins, and the seconds that the worker cost before."""
    last = bisect_right(free_at, at) - 1
    if last >= 0 and at - free_at[last] < COLD_START:
        return at, at - free_at.pop(last)
    first = bisect_left(free_at, at)
    if first < len(free_at) and free_at[first] <= at + wait:
        return free_at.pop(first), 0.0
    return at, COLD_START


def least_gpu_seconds(demand: Demand) -> float:
    """Return what no plan can be below: the work itself, and one cold start."""
    return demand.work + COLD_START
