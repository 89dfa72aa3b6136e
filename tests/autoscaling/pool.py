"""A pool of workers that an autoscaler starts and ends, on a clock that jumps from one event to the next."""

import heapq
import itertools
from collections import defaultdict
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from typing import Any

from tests.autoscaling.demand import DAY, Demand
from tests.autoscaling.keda import SYNC_SECONDS, Autoscaler
from tests.autoscaling.wanted import Horizons, Running, Waiting, workers_wanted

COLD_START = 240.0
# A pod that is ended in the middle of a take hands it back after the drain: the rest is rendered elsewhere, and the
# last step and the load of the checkpoint are made twice.
DRAIN_SECONDS, HAND_BACK_SECONDS = 20.0, 15.0
# Flex work that has waited for so long gets standard priority, as the shipped book says: 4 hours before 24 are over.
PROMOTE_SECONDS = 20 * 3600.0
# A priority film that starts later is charged as a standard one; start_within_minutes of the shipped book.
PROMISE_SECONDS = 600.0


@dataclass
class Unit:
    """A unit that waits or runs."""

    account: str
    priority: int
    seconds: float
    order: int
    queued_at: float
    tier: int


@dataclass
class Worker:
    """A pod: when it was made, when it may claim, and what it renders."""

    number: int
    since: float
    ready_at: float
    unit: Unit | None = None
    began: float = 0.0
    ends: bool = False


@dataclass
class Outcome:
    """What a day cost, and how long each order waited for its first start, by service tier."""

    gpu_seconds: float = 0.0
    busy_seconds: float = 0.0
    started: int = 0
    handed_back: int = 0
    most: int = 0
    waits: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    late: set[int] = field(default_factory=set)  # numbers of the priority orders that started too late

    def kept(self, unavoidable: Set[int] = frozenset()) -> float:
        """Return the part of priority orders that started in time, or late whatever the fleet."""
        return 1.0 - len(self.late - unavoidable) / max(1, len(self.waits[0]))


class Pool:
    """One day of a pool; `run` returns what it measured.

    `fixed` is a fleet of that size that always runs; else `autoscaler` and `wanted` decide. `ends_idle_first` is
    whether the pods to end are chosen by `pod-deletion-cost`; else Kubernetes takes the newest.
    """

    def __init__(
        self,
        demand: Demand,
        *,
        autoscaler: Autoscaler | None = None,
        horizons: Horizons | None = None,
        worst_class: int = 1,
        fixed: int = 0,
        ends_idle_first: bool = False,
        rule: Callable[..., int] = workers_wanted,
    ) -> None:
        self._demand, self._autoscaler, self._horizons = demand, autoscaler, horizons
        self._worst_class, self._ends_idle_first, self._rule = worst_class, ends_idle_first, rule
        self._at, self._events, self._numbers = 0.0, list[tuple[float, int, Any]](), itertools.count()
        self._workers: dict[int, Worker] = {}
        self._waiting: dict[tuple[int, str], list[Unit]] = defaultdict(list)
        self._running: dict[str, int] = defaultdict(int)
        self._vtime: dict[str, float] = defaultdict(float)
        self._begun: set[int] = set()
        self._open = sum(len(order.units) for order in demand.orders)
        self.outcome = Outcome()
        self._fixed = fixed
        for _ in range(fixed):
            self._start(0.0)

    def _later(self, at: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (at, next(self._numbers), what))

    def run(self) -> Outcome:
        """Run until the day is over, all work is done, and no worker runs but those of a fixed fleet."""
        for number, order in enumerate(self._demand.orders):
            self._later(order.at, lambda number=number, order=order: self._order(number, order))
        if self._autoscaler is not None:
            self._later(0.0, self._sync)
        while self._events:
            self._at, _, act = heapq.heappop(self._events)
            act()
        for worker in list(self._workers.values()):
            self._remove(worker, at=max(DAY, self._at))
        return self.outcome

    def _order(self, number: int, order: Any) -> None:
        for seconds in order.units:
            unit = Unit(order.account, order.priority, seconds, number, self._at, order.priority)
            self._queue(unit)
            if order.priority == 2:
                self._later(self._at + PROMOTE_SECONDS, lambda unit=unit: self._promote(unit))
        self._claims()

    def _queue(self, unit: Unit) -> None:
        key = (unit.priority, unit.account)
        if not self._waiting[key] and not self._running[unit.account]:
            active = [self._vtime[account] for (_, account), units in self._waiting.items() if units]
            self._vtime[unit.account] = max(self._vtime[unit.account], min(active, default=0.0))
        self._waiting[key].append(unit)

    def _promote(self, unit: Unit) -> None:
        line = self._waiting[2, unit.account]
        if unit in line:
            line.remove(unit)
            unit.priority = 1
            self._waiting[1, unit.account].append(unit)
            self._claims()

    def _claims(self) -> None:
        """Have idle workers claim: by class, then the account with the least virtual time below its concurrency."""
        for worker in self._workers.values():
            if worker.unit is None and not worker.ends and worker.ready_at <= self._at and not self._claim(worker):
                return

    def _claim(self, worker: Worker) -> bool:
        best: tuple[int, float, str] | None = None
        for (priority, account), units in self._waiting.items():
            if units and self._running[account] < self._demand.concurrency[account]:
                candidate = (priority, self._vtime[account], account)
                best = candidate if best is None else min(best, candidate)
        if best is None:
            return False
        unit = self._waiting[best[0], best[2]].pop(0)
        worker.unit, worker.began = unit, self._at
        self._running[unit.account] += 1
        self._vtime[unit.account] += unit.seconds
        if unit.order not in self._begun:
            self._begun.add(unit.order)
            wait = self._at - unit.queued_at
            self.outcome.waits[unit.tier].append(wait)
            if unit.tier == 0 and wait > PROMISE_SECONDS:
                self.outcome.late.add(unit.order)
        self._later(self._at + unit.seconds, lambda: self._end(worker, unit))
        return True

    def _end(self, worker: Worker, unit: Unit) -> None:
        if worker.unit is not unit:
            return  # it was handed back
        self._open -= 1
        self._release(worker, unit)
        if worker.ends:
            self._remove(worker, at=self._at)
        self._claims()

    def _release(self, worker: Worker, unit: Unit) -> None:
        worker.unit = None
        self._running[unit.account] -= 1
        self.outcome.busy_seconds += self._at - worker.began

    def _start(self, cold_start: float = COLD_START) -> None:
        worker = Worker(next(self._numbers), self._at, self._at + cold_start)
        self._workers[worker.number] = worker
        self.outcome.started += 1
        self.outcome.most = max(self.outcome.most, len(self._workers))
        self._later(worker.ready_at, self._claims)

    def _remove(self, worker: Worker, *, at: float) -> None:
        if self._workers.pop(worker.number, None) is not None:
            self.outcome.gpu_seconds += at - worker.since

    def _stop(self) -> None:
        """End one pod: Kubernetes takes one that is not ready first, then by deletion cost, then the newest."""
        alive = [each for each in self._workers.values() if not each.ends]
        worker = max(
            alive,
            key=lambda each: (each.ready_at > self._at, self._ends_idle_first and each.unit is None, each.ready_at),
        )
        worker.ends = True
        unit = worker.unit
        if unit is None:
            self._remove(worker, at=self._at)
        elif unit.seconds - (self._at - worker.began) > DRAIN_SECONDS:
            self._later(self._at + DRAIN_SECONDS, lambda: self._hand_back(worker, unit))

    def _hand_back(self, worker: Worker, unit: Unit) -> None:
        if worker.unit is not unit:
            return
        self.outcome.handed_back += 1
        unit.seconds = unit.seconds - (self._at - worker.began) + HAND_BACK_SECONDS
        self._release(worker, unit)
        self._remove(worker, at=self._at)
        self._waiting[unit.priority, unit.account].insert(0, unit)
        self._claims()

    def wanted(self) -> int:
        """Return what the query of the autoscaler returns now; it knows mean durations, not these ones."""
        each = self._demand.unit_seconds
        waiting = [
            Waiting(account, priority, len(units), each)
            for (priority, account), units in self._waiting.items()
            if units
        ]
        running = [
            Running(worker.unit.account, max(0.0, each - (self._at - worker.began)))
            for worker in self._workers.values()
            if worker.unit is not None
        ]
        return self._rule(waiting, running, self._demand.concurrency, self._horizons, self._worst_class)

    def _sync(self) -> None:
        assert self._autoscaler is not None
        current = sum(not worker.ends for worker in self._workers.values())
        target = self._autoscaler.replicas(self._at, current, self.wanted())
        for _ in range(target - current):
            self._start()
        for _ in range(current - target):
            self._stop()
        if self._at < DAY or self._open or self._workers:
            self._later(self._at + SYNC_SECONDS, self._sync)
