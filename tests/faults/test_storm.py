"""Jobs through a storm: none lost, none doubled, every fen accounted for. CINEMETER_STORM_JOBS=200 makes it longer."""

import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from app.settings import child_environment
from tests.faults.storm import Storm
from tests.live import Service, start, stop

LEASE_SECONDS = 4
JOBS = int(os.environ.get("CINEMETER_STORM_JOBS", "60"))  # noqa: TID251 — a knob of this test alone
SEED = int(os.environ.get("CINEMETER_STORM_SEED", "1"))  # noqa: TID251

pytestmark = [pytest.mark.deep, pytest.mark.timeout(1800)]


@pytest.fixture
def stormy(tmp_path: Path) -> Iterator[Service]:
    running = start(
        tmp_path / "home",
        CINEMETER_LEASE_SECONDS=str(LEASE_SECONDS),
        CINEMETER_HEARTBEAT_SECONDS="1",
        CINEMETER_TAKES_LOST_MAX="1000",
        CINEMETER_TAKES_ERROR_MAX="1000",
        CINEMETER_CATALOG_DIR=str(Path(__file__).parent / "catalog"),
        CINEMETER_POOLS="finish,synthetic",
    )
    yield running
    stop(running)


def test_a_storm_loses_nothing_and_doubles_nothing(stormy: Service, capsys: pytest.CaptureFixture[str]) -> None:
    storm = Storm(stormy, seed=SEED, lease_seconds=LEASE_SECONDS)
    orders = [order(storm, number) for number in range(JOBS)]
    accepted: set[str] = set()

    def done() -> bool:
        # Orders go in while the storm blows: a client repeats a call until it is answered, with one key per order.
        for _ in range(12):
            if orders:
                video_id = submit(stormy, *orders[-1])
                if video_id is None:
                    break
                accepted.add(video_id)
                orders.pop()
        return not orders and open_jobs(stormy) == 0

    began = time.monotonic()
    storm.blow(lambda: JOBS - len(orders) - open_jobs(stormy), done)
    quiet = until_quiet(stormy)
    found = facts(stormy)
    with capsys.disabled():
        print(f"\nstorm of seed {SEED}: {dict(storm.tally)}")
        print(f"jobs {found['states']}, takes {found['takes']}")
        print(f"{time.monotonic() - began:.0f} s in all, quiet after {quiet:.1f} s")
        for role, times in storm.recovery.items():
            print(f"  {role} back after {statistics.median(times):.1f} s (worst {max(times):.1f} s)")
    assert len(accepted) == JOBS
    assert found["states"] == {"completed": JOBS}
    assert found["receipts"] == JOBS
    assert audit(stormy) == 0


def order(storm: Storm, number: int) -> tuple[str, dict[str, Any]]:
    shots = [
        {"prompt": f"shot {n}", "seconds": storm.random.choice([1, 3])} for n in range(storm.random.choice([1, 2]))
    ]
    return f"storm-{number}", {"model": "storm", "shots": shots, "resolution": "480P"}


def submit(service: Service, key: str, body: dict[str, Any]) -> str | None:
    """Order once; None when the answer was lost or the service away, and the same key is used until it answers."""
    try:
        with service.client("enterprise", **{"Idempotency-Key": key}) as client:
            answer = client.post("/v1/videos", json=body)
    except httpx.HTTPError:
        return None
    if answer.status_code == 200:
        return str(answer.json()["id"])
    assert answer.status_code in (429, 500, 503), answer.text
    return None


def open_jobs(service: Service) -> int:
    return ask(service, "SELECT count(*) FROM jobs WHERE state IN ('queued', 'in_progress')", 1)[0][0]


def ask(service: Service, query: str, fallback: object = None) -> list[Any]:
    try:
        with psycopg.connect(service.servers()["database_url"], autocommit=True) as connection:
            return connection.execute(query).fetchall()
    except psycopg.OperationalError:
        return [(fallback,)]


def until_quiet(service: Service) -> float:
    """Wait until every delivery and take has ended; return the seconds."""
    began = time.monotonic()
    while ask(service, "SELECT count(*) FROM takes WHERE state = 'running'", 1)[0][0]:
        assert time.monotonic() - began < 120, "takes are still running"
        time.sleep(0.2)
    return time.monotonic() - began


def facts(service: Service) -> dict[str, Any]:
    return {
        "states": dict(Counter(dict(ask(service, "SELECT state, count(*) FROM jobs GROUP BY 1")))),
        "takes": dict(ask(service, "SELECT state, count(*) FROM takes GROUP BY 1")),
        "receipts": ask(service, "SELECT count(*) FROM receipts")[0][0],
    }


def audit(service: Service) -> int:
    """The exit status of the audit: 0 when everything agrees."""
    command = [sys.executable, "-m", "app.cli.main", "audit", "--home", str(service.home)]
    return subprocess.run(command, check=False, env=child_environment()).returncode
