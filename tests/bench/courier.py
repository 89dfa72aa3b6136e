"""Measure the courier: deliveries per second, delay beside an endpoint that hangs, and losses under kill -9.

`python -m tests.bench.courier [--events N]` starts embedded servers, or uses CINEMETER_DATABASE_URL where it is set.
"""

import argparse
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from time import monotonic, sleep

from app.accounts.caller import Caller
from app.cli.embedded import embedded
from app.cli.migrate import upgrade
from app.db import forget_engines, transaction
from app.settings import get_settings
from app.webhooks.endpoints import delete_endpoint
from tests.app.webhooks.couriers import CourierProcess
from tests.app.webhooks.factories import open_account, open_endpoint, publish
from tests.bench.sink import Sink

ENDPOINTS = 50
BATCH = 100
# How long each of the two is measured in all, in seconds, and in how many rounds.
SECONDS = 24
ROUNDS = 4


@dataclass
class World:
    """Fifty accounts with one endpoint each, and when which event was committed for which of them."""

    sink: Sink
    callers: list[Caller] = field(default_factory=list)
    committed: dict[str, tuple[float, int]] = field(default_factory=dict)
    endpoints: list[tuple[Caller, str]] = field(default_factory=list)

    def open(self, *, hanging: int = 0) -> None:
        with transaction() as session:
            # What still waits for one that hangs would go on beside a round in which none does.
            for caller, endpoint_id in self.endpoints:
                delete_endpoint(session, caller, endpoint_id)
        self.callers.clear()
        self.endpoints.clear()
        with transaction() as session:
            for number in range(ENDPOINTS):
                caller = open_account(session)
                path = f"/hang/{number}" if number < hanging else f"/ok/{number}"
                made = open_endpoint(
                    session,
                    caller,
                    self.sink.url + path,
                    event_types=["video.*"],
                    max_in_flight=20,
                    rate_per_second=1_000,
                )
                self.callers.append(caller)
                self.endpoints.append((caller, made.id))

    def tell(self, start: int, count: int) -> None:
        """Write events in one transaction, for the endpoints in turn."""
        with transaction() as session:
            numbers = range(start, start + count)
            written = [(publish(session, self.callers[n % ENDPOINTS]).id, n % ENDPOINTS) for n in numbers]
        moment = monotonic()
        self.committed |= {event_id: (moment, number) for event_id, number in written}


@contextmanager
def database() -> Iterator[None]:
    """A migrated database and a home of its own, set as the configured ones."""
    with tempfile.TemporaryDirectory(prefix="bench-") as home:
        os.environ["CINEMETER_HOME"] = home  # noqa: TID251
        os.environ["CINEMETER_WEBHOOK_ALLOW_PRIVATE"] = "1"  # noqa: TID251
        get_settings.cache_clear()
        if get_settings().database_url:
            upgrade()
            yield
            return
        with embedded(Path(home), throwaway=True) as servers:
            os.environ["CINEMETER_DATABASE_URL"] = servers.database_url  # noqa: TID251
            get_settings.cache_clear()
            upgrade()
            yield
            forget_engines()


def throughput(world: World, events: int) -> str:
    """A backlog for 50 endpoints, one courier process: deliveries per second between the first and the last."""
    world.open()
    world.committed.clear()
    for start in range(0, events, BATCH):
        world.tell(start, BATCH)
    with CourierProcess(timeout_seconds=15) as courier:
        notes = _collect(world, set(world.committed))
        courier.terminate()
    times = sorted(at for _, _, at in notes)
    return f"{events / (times[-1] - times[0]):.0f} deliveries/s of one courier process ({events} events, 50 endpoints)"


def in_turns(world: World) -> tuple[list[float], list[float]]:
    """Return the delays without and beside an endpoint that hangs, in short rounds by turns: each of two comes first
    as often as the other, so that whatever else the machine does hits both alike."""
    alone: list[float] = []
    beside: list[float] = []
    for turn in range(ROUNDS):
        for hanging in (0, 1) if turn % 2 == 0 else (1, 0):
            found = delays(world, hanging=hanging, seconds=SECONDS // ROUNDS)
            (beside if hanging else alone).extend(found)
    return alone, beside


def delays(world: World, *, hanging: int, seconds: int, rate: int = 50) -> list[float]:
    """Return the seconds from commit to receipt at the endpoints that do not hang, at a steady rate of events."""
    world.open(hanging=hanging)
    world.committed.clear()
    with CourierProcess(timeout_seconds=15):
        # The first event only shows that the courier is up; its delay is that of starting a process.
        world.tell(ENDPOINTS - 1, 1)
        _collect(world, set(world.committed))
        world.committed.clear()
        begun = monotonic()
        for number in range(seconds * rate):
            world.tell(number, 1)
            sleep(max(0.0, begun + (number + 1) / rate - monotonic()))
        healthy = {event_id for event_id, (_, endpoint) in world.committed.items() if endpoint >= hanging}
        notes = _collect(world, healthy)
    return [at - world.committed[event_id][0] for _, event_id, at in notes if event_id in healthy]


def kills(world: World, events: int) -> str:
    """Kill couriers repeatedly (SIGKILL) while they deliver a backlog; count lost and repeated deliveries."""
    world.open()
    world.committed.clear()
    for start in range(0, events, BATCH):
        world.tell(start, BATCH)
    seen: Counter[str] = Counter()
    killed = 0
    while len(seen) < events:
        wanted = min(events, len(seen) + events // 12)
        with CourierProcess(timeout_seconds=1):
            while len(seen) < wanted:
                sleep(0.05)
                seen.update(event_id for path, event_id, _ in world.sink.noted() if path.startswith("/ok"))
        killed += 1
    foreign = set(seen) - set(world.committed)
    lost = len(set(world.committed) - set(seen))
    twice = sum(seen.values()) - len(seen)
    return f"{events} events through {killed} kill -9: {lost} lost, {twice} came twice, {len(foreign)} with another id"


def _collect(world: World, wanted: set[str]) -> list[tuple[str, str, float]]:
    """Wait until each of the wanted events has come, and return all notes until then."""
    notes: list[tuple[str, str, float]] = []
    missing = set(wanted)
    while missing:
        sleep(0.2)
        fresh = world.sink.noted()
        missing -= {event_id for _, event_id, _ in fresh}
        notes += fresh
    return notes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000, help="events of the throughput and the kill runs")
    events = parser.parse_args().events
    with database(), Sink() as sink:
        world = World(sink)
        print(throughput(world, events))
        alone, beside = in_turns(world)
        for name, found in (("none hangs", alone), ("1 of 50 hangs", beside)):
            print(f"commit to receipt, {name}: p50 {median(found) * 1000:.0f} ms, p99 {_p99(found) * 1000:.0f} ms")
        print(f"p99 beside one that hangs / p99 without: {_p99(beside) / _p99(alone):.2f}")
        print(kills(world, events))


def _p99(values: list[float]) -> float:
    return quantiles(values, n=100)[98]


if __name__ == "__main__":
    main()
