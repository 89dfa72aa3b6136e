"""What five seconds at 720P of the shipped model cost a worker: `python -m tests.bench.demo_job [--label eu_icon]`.

A real service renders the film once to warm up and three times to measure, each with another seed. The worker's time is
the sum of the takes' seconds from claim to settlement; processor seconds are those of the meters, by stage.
"""

import argparse
import statistics
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import psycopg

from app.provenance.label_policy import VisibleLabel
from tests.live_service import follow, start, stop

RUNS = 3
PROMPT = "a red circle moves right on a blue background"
TAKES = """
SELECT extract(epoch FROM take.ended_at - take.started_at), take.meter
  FROM takes AS take WHERE take.job_id = %s AND take.state = 'succeeded'
"""


def render(client: httpx.Client, database_url: str, seed: int) -> tuple[float, Counter[str], Counter[str]]:
    """Order one film; return the worker's seconds, and seconds and processor seconds by stage."""
    asked: dict[str, Any] = {"model": "demo", "prompt": PROMPT, "seconds": 5, "resolution": "720P", "seed": seed}
    video = follow(client, client.post("/v1/videos", json=asked).raise_for_status().json()["id"])
    assert video["status"] == "completed", video
    whole, wall, cpu = 0.0, Counter[str](), Counter[str]()
    with psycopg.connect(database_url) as connection:
        for seconds, meter in connection.execute(TAKES, (video["id"],)):
            whole += float(seconds)
            wall.update(meter["seconds"])
            cpu.update(meter["cpu_seconds"])
    return whole, wall, cpu


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--label", default="none", choices=list(VisibleLabel), help="visible label of the films")
    label = parser.parse_args().label
    with tempfile.TemporaryDirectory() as folder:
        service = start(Path(folder) / "home", CINEMETER_VISIBLE_LABEL=label)
        try:
            with service.client() as client:
                runs = [render(client, service.servers()["database_url"], seed) for seed in range(RUNS + 1)][1:]
        finally:
            stop(service)
    spent = statistics.median(whole for whole, _, _ in runs)
    print(f"{spent:.1f} s of one worker for a 5-second film at 720P (median of {RUNS}; aim 30 s)")
    for stage in runs[0][1]:
        wall = statistics.median(run[1][stage] for run in runs)
        cpu = statistics.median(run[2][stage] for run in runs)
        print(f"  {stage:8} {wall:6.2f} s, {cpu:6.2f} processor seconds")
    print(f"  {'together':8} {'':8} {statistics.median(run[2].total() for run in runs):6.2f} processor seconds (aim 8)")
    # Beside all else that the film costs, as the marks are what was added to it.
    for name, index in (("time", 1), ("processor time", 2)):
        share = statistics.median(run[index]["marks"] / (run[index].total() - run[index]["queue"]) for run in runs)
        print(f"marks are {share:.1%} of the film's {name} in all stages, queueing aside (aim 25 %)")


if __name__ == "__main__":
    main()
