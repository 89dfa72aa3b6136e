"""Figures of a run: percentiles, Jain's index of fairness, and where the time of each step went."""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine, event

from tests.bench.polls import backend_seconds


def percentile(values: Sequence[float], part: float) -> float:
    """Return the value below which `part` (0 to 1) of the values lie; 0 where there are none."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))] if values else 0.0


def spread(values: Sequence[float], unit: str = "s", digits: int = 1) -> str:
    """Return p50, p95 and p99 as text."""
    return ", ".join(f"p{part} {percentile(values, part / 100):.{digits}f} {unit}" for part in (50, 95, 99))


def jain(values: Sequence[float]) -> float:
    """Return Jain's index of fairness: 1 where all values are equal, 1/n where one has everything."""
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 1.0


class Tenths:
    """Prints how fast each part of a run was, and what it cost in processor time."""

    def __init__(self) -> None:
        self._count, self._before = 0, self._read()

    def _read(self) -> tuple[float, float, float]:
        return time.monotonic(), time.process_time(), backend_seconds("cli")

    def print_next(self, count: int) -> None:
        """Print the part that ends with the `count`-th job."""
        after, jobs = self._read(), count - self._count
        seconds, python, backends = (now - before for now, before in zip(after, self._before, strict=True))
        costs = f"{1000 * python / jobs:.1f} ms in Python, {1000 * backends / jobs:.1f} ms in PostgreSQL for each"
        print(f"{count} orders: {jobs / seconds:.0f} jobs/s, {costs}", flush=True)
        self._count, self._before = count, after


@dataclass
class StepTimes:
    """Of each kind of step: how often, how many statements, the seconds in all, and those spent in the database."""

    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    statements: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    database: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    _step: str = ""
    _began: float = 0.0

    def watch(self, engine: Engine) -> None:
        """Count the statements of this process."""

        def before(*_: Any) -> None:
            self._began = time.perf_counter()

        def after(_connection: Connection, *_: Any) -> None:
            self.statements[self._step] += 1
            self.database[self._step] += time.perf_counter() - self._began

        event.listen(engine, "before_cursor_execute", before)
        event.listen(engine, "after_cursor_execute", after)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Count the block as a step of this kind."""
        outer, self._step = self._step, name
        began = time.perf_counter()
        try:
            yield
        finally:
            self.counts[name] += 1
            self.seconds[name] += time.perf_counter() - began
            self._step = outer

    def lines(self) -> Iterator[str]:
        """Yield a table of the steps, the longest first."""
        total = sum(self.seconds.values()) or 1.0
        yield f"{'step':<20}{'count':>9}{'ms each':>10}{'in database':>13}{'statements':>12}{'of all':>8}"
        for name in sorted(self.seconds, key=self.seconds.__getitem__, reverse=True):
            count = self.counts[name]
            each, waited = (1000 * part[name] / count for part in (self.seconds, self.database))
            share = 100 * self.seconds[name] / total
            sent = self.statements[name] / count
            yield f"{name:<20}{count:>9}{each:>10.2f}{waited:>13.2f}{sent:>12.1f}{share:>7.0f}%"
