"""Jobs through a storm: none lost, none doubled, every fen accounted for.

CINEMETER_STORM_SEED deals the faults and the orders; CINEMETER_STORM_FAULTS (three of each kind) makes it shorter or
longer: `make storm FAULTS=1000`.
"""

import itertools
import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults.environment import Ground, ground
from tests.faults.storm import Storm

KINDS = 25
FAULTS = int(os.environ.get("CINEMETER_STORM_FAULTS", str(3 * KINDS)))  # noqa: TID251 — a knob of this test alone
SEED = int(os.environ.get("CINEMETER_STORM_SEED", "1"))  # noqa: TID251
# Films that are open at any time of the storm, so that no fault meets a service without work.
OPEN_MIN = 8
END_SECONDS = 300.0

pytestmark = [pytest.mark.deep, pytest.mark.timeout(max(2400, 60 * FAULTS))]

# A segment that killed two workers is poison and is refunded: so it is here, where workers are killed without reason.
POISONED = """
    SELECT count(*) FROM jobs j JOIN receipts r ON r.job_id = j.id
    WHERE j.state = 'failed' AND j.error_code = 'worker_lost' AND r.total = 0 AND 2 <= (
        SELECT count(DISTINCT t.worker_id) FROM takes t
        WHERE t.job_id = j.id AND t.state = 'lost' AND (t.step = 0 OR t.error_code = 'worker_died'))
"""


@pytest.fixture
def stormy(tmp_path: Path) -> Iterator[Ground]:
    with ground(tmp_path / "ground") as stands:
        yield stands


class Customer:
    """A customer who always has some films open; each call is repeated with its key until it is answered."""

    def __init__(self, storm: Storm) -> None:
        self.storm = storm
        self.accepted: set[str] = set()
        self._orders = (order(storm, number) for number in itertools.count())
        self._next = next(self._orders)

    def feed(self) -> None:
        """Order until enough films are open, or a call fails."""
        while open_jobs(self.storm.ground) < OPEN_MIN:
            video_id = submit(self.storm.ground, *self._next)
            if video_id is None:
                return
            assert video_id not in self.accepted
            self.accepted.add(video_id)
            self._next = next(self._orders)


def test_a_storm_loses_nothing_and_doubles_nothing(stormy: Ground, capsys: pytest.CaptureFixture[str]) -> None:
    storm = Storm(stormy, seed=SEED)
    customer = Customer(storm)
    began = time.monotonic()
    storm.blow(customer.feed, count=FAULTS)
    blown = time.monotonic() - began
    quiet = until_quiet(stormy)
    jobs = dict(stormy.ask("SELECT state, count(*) FROM jobs GROUP BY 1"))
    takes = dict(stormy.ask("SELECT state, count(*) FROM takes GROUP BY 1"))
    poisoned, count = stormy.ask(POISONED)[0][0], sum(jobs.values())
    with capsys.disabled():
        print(f"\nstorm of seed {SEED}: {storm.tally.total()} faults in {blown:.0f} s")
        print(f"jobs {jobs}, {poisoned} of them given up as poison; takes {takes}; quiet after {quiet:.1f} s")
        print(f"workers with a strange clock that were given no work: {storm.idle_strangers}")
        print("seconds from a fault until a take that began after it had succeeded (median, worst):")
        for name, number in sorted(storm.tally.items()):
            times = storm.recovery.get(name, [])
            summary = f"{statistics.median(times):.1f} {max(times):.1f}" if times else "never"
            print(f"  {number} × {name}: {summary}")
    assert len(storm.faults) == KINDS
    clocks = sum(storm.tally[fault.__name__] for fault in (storm.a_clock_an_hour_ahead, storm.a_clock_an_hour_behind))
    assert storm.idle_strangers < max(1, clocks), "no worker with a strange clock was given work"
    # A deck is dealt before the next, so each kind has come as often as any other, or once less.
    assert min(storm.tally[fault.__name__] for fault in storm.faults) >= FAULTS // KINDS
    assert {name: len(storm.recovery.get(name, [])) for name in storm.tally} == storm.tally, "work goes on after each"
    # A call whose answer was lost may have made one film more, which its repeat would have been answered with.
    assert count - len(customer.accepted) in (0, 1)
    assert jobs.get("completed", 0) + poisoned == count
    assert stormy.ask("SELECT count(*), count(DISTINCT job_id) FROM receipts")[0] == (count, count)
    assert stormy.ask("SELECT count(*) FROM transfers WHERE kind = 'capture'")[0][0] == jobs.get("completed", 0)
    references = stormy.ask("SELECT reference FROM transfers WHERE kind = 'purchase'")
    top_ups = [reference.rpartition(":")[2] for (reference,) in references]
    assert len(top_ups) == len(set(top_ups))
    assert set(storm.top_ups) <= set(top_ups)
    assert stormy.audit() == 0


def order(storm: Storm, number: int) -> tuple[str, dict[str, Any]]:
    shots = [
        {"prompt": f"shot {n}", "seconds": storm.random.choice([1, 3])} for n in range(storm.random.choice([1, 2]))
    ]
    return f"storm-{number}", {"model": "storm", "shots": shots, "resolution": "480P"}


def submit(stormy: Ground, key: str, body: dict[str, Any]) -> str | None:
    """Order once; None when the answer was lost or the service away, and the same key is used until it answers."""
    try:
        with stormy.service.client("enterprise", **{"Idempotency-Key": key}) as client:
            answer = client.post("/v1/videos", json=body, timeout=20)
    except httpx.HTTPError:
        return None
    if answer.status_code == 200:
        return str(answer.json()["id"])
    assert answer.status_code in (409, 429, 500, 503), answer.text
    return None


def open_jobs(stormy: Ground) -> int:
    return int(stormy.ask("SELECT count(*) FROM jobs WHERE state IN ('queued', 'in_progress')", fallback=1)[0][0])


def until_quiet(stormy: Ground) -> float:
    """Wait until every job and take has ended; return the seconds."""
    began = time.monotonic()
    running = "SELECT count(*) FROM takes WHERE state = 'running'"
    while open_jobs(stormy) or stormy.ask(running, fallback=1)[0][0]:
        assert time.monotonic() - began < END_SECONDS, "jobs or takes have not ended"
        stormy.tend()
        time.sleep(0.2)
    return time.monotonic() - began
