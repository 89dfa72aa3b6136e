"""Jobs through a storm: none lost, none doubled, every fen accounted for.

CINEMETER_STORM_SEED deals the faults and the orders; CINEMETER_STORM_FAULTS (one of each kind) makes it shorter or
longer: `make storm FAULTS=1000`.
"""

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
FAULTS = int(os.environ.get("CINEMETER_STORM_FAULTS", str(KINDS)))  # noqa: TID251 — a knob of this test alone
SEED = int(os.environ.get("CINEMETER_STORM_SEED", "1"))  # noqa: TID251
# About as many as end in the lulls between the faults.
JOBS = 2 * FAULTS + FAULTS // 2

pytestmark = [pytest.mark.deep, pytest.mark.timeout(max(2400, 40 * FAULTS))]

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


def test_a_storm_loses_nothing_and_doubles_nothing(stormy: Ground, capsys: pytest.CaptureFixture[str]) -> None:
    storm = Storm(stormy, seed=SEED)
    orders = [order(storm, number) for number in range(JOBS)]
    accepted: set[str] = set()

    def done() -> bool:
        # Orders go in while the storm blows: a client repeats a call until it is answered, with one key per order.
        # They are spread over the storm, so that no fault meets a service without work.
        due = min(JOBS, 12 + JOBS * (storm.tally.total() + 1) // FAULTS)
        for _ in range(3):
            if orders and len(accepted) < due and open_jobs(stormy) < 12:
                video_id = submit(stormy, *orders[-1])
                if video_id is None:
                    break
                accepted.add(video_id)
                orders.pop()
        return not orders and open_jobs(stormy) == 0

    began = time.monotonic()
    storm.blow(lambda: len(accepted) - open_jobs(stormy), done, count=FAULTS)
    quiet = until_quiet(stormy)
    states = dict(stormy.ask("SELECT state, count(*) FROM jobs GROUP BY 1"))
    takes = dict(stormy.ask("SELECT state, count(*) FROM takes GROUP BY 1"))
    poisoned = stormy.ask(POISONED)[0][0]
    with capsys.disabled():
        print(f"\nstorm of seed {SEED}: {sum(storm.tally.values())} faults in {time.monotonic() - began:.0f} s")
        print(f"jobs {states}, {poisoned} of them given up as poison; takes {takes}; quiet after {quiet:.1f} s")
        print("seconds from a fault until a take that began after it had succeeded (median, worst):")
        for name, count in sorted(storm.tally.items()):
            times = storm.recovery.get(name)
            told = f"{statistics.median(times):.1f} {max(times):.1f}" if times else "no work was left"
            print(f"  {count} × {name}: {told}")
    assert len(storm.faults) == KINDS
    # A deck is dealt before the next, so each kind has come as often as any other, or once less.
    assert min(storm.tally[fault.__name__] for fault in storm.faults) >= FAULTS // KINDS
    assert len(accepted) == JOBS
    assert states.get("completed", 0) + poisoned == JOBS
    assert stormy.ask("SELECT count(*), count(DISTINCT job_id) FROM receipts")[0] == (JOBS, JOBS)
    assert stormy.ask("SELECT count(*) FROM transfers WHERE kind = 'capture'")[0][0] == states.get("completed", 0)
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
    """Wait until every take has ended; return the seconds."""
    began = time.monotonic()
    while stormy.ask("SELECT count(*) FROM takes WHERE state = 'running'", fallback=1)[0][0]:
        assert time.monotonic() - began < 120, "takes are still running"
        stormy.tend()
        time.sleep(0.2)
    return time.monotonic() - began
