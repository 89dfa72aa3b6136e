"""The rule of the SQL function `workers_wanted` in Python, for the simulation; a test holds the two equal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

# Below what the rule resolves: a sum of fractions may be off by its last digits.
_EPSILON = 1e-6


@dataclass(frozen=True)
class Horizons:
    """How long work may wait for a worker that runs before another one is wanted, in seconds."""

    priority: float
    standard: float


@dataclass(frozen=True)
class Waiting:
    """Ready units of an account in one class, and the seconds that each takes; None where none was measured."""

    account: str
    priority: int
    units: int
    seconds_each: float | None


@dataclass(frozen=True)
class Running:
    """A running take, and the seconds until it probably ends; None where none was measured."""

    account: str
    seconds_left: float | None


def workers_wanted(
    waiting: Sequence[Waiting],
    running: Sequence[Running],
    concurrency: Mapping[str, int],
    horizons: Horizons,
    worst_class: int,
) -> int:
    """Return how many workers a pool can use: those that run, and more where these start what waits too late."""
    counted: dict[str, int] = {}
    for take in running:
        counted[take.account] = counted.get(take.account, 0) + 1
    free = {account: max(0, limit - counted.get(account, 0)) for account, limit in concurrency.items()}

    def missing(worst: int, horizon: float) -> int:
        needs: dict[str, float] = {}
        for each in waiting:
            if each.priority <= worst:
                share = 1.0 if each.seconds_each is None else min(1.0, each.seconds_each / horizon)
                needs[each.account] = needs.get(each.account, 0.0) + each.units * share
        need = sum(min(free[account], units) for account, units in needs.items())
        supply = sum(
            max(0.0, horizon - take.seconds_left) / horizon for take in running if take.seconds_left is not None
        )
        return ceil(max(0.0, need - supply) - _EPSILON)

    return len(running) + max(missing(0, horizons.priority), missing(worst_class, horizons.standard), 0)
