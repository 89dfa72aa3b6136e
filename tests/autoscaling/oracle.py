"""What a day costs who knows all of its orders beforehand, with the same cold start."""

import heapq
from collections import defaultdict

from tests.autoscaling.demand import Demand
from tests.autoscaling.pool import COLD_START


def oracle_gpu_seconds(demand: Demand) -> float:
    """Return the GPU-seconds of workers that are there at the moment each unit may start, so that nobody waits.

    Each account's units start as they come, up to its concurrency. A worker is started a cold start before it is
    needed, and is kept over a gap that is shorter than another cold start. A unit goes to the worker that became free
    last, which leaves the longest gaps to the others. Flex work is assumed to fill gaps: it costs its own seconds. An
    oracle that let others wait could be cheaper; `least_gpu_seconds` is below any.
    """
    spans = sorted(_spans(demand))
    free: list[float] = []  # negated ends of workers that are idle, the latest first
    busy: list[float] = []
    total = 0.0
    for begin, end in spans:
        while busy and busy[0] <= begin:
            heapq.heappush(free, -heapq.heappop(busy))
        gap = begin + free[0] if free else COLD_START
        if free:
            heapq.heappop(free)
        total += min(gap, COLD_START) + (end - begin)
        heapq.heappush(busy, end)
    return total + sum(sum(order.units) for order in demand.orders if order.priority == 2)


def least_gpu_seconds(demand: Demand) -> float:
    """Return what no plan can be below: the work itself, and one cold start."""
    return demand.work + COLD_START


def _spans(demand: Demand) -> list[tuple[float, float]]:
    ends: dict[str, list[float]] = defaultdict(list)
    spans = []
    for order in demand.orders:
        if order.priority == 2:
            continue
        running = ends[order.account]
        for seconds in order.units:
            begin = order.at
            if len(running) >= demand.concurrency[order.account]:
                begin = max(begin, heapq.heappop(running))
            heapq.heappush(running, begin + seconds)
            spans.append((begin, begin + seconds))
    return spans
