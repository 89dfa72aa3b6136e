"""Measure what the service adds to the time of a film on the engine, as SGLang's benchmark would see it.

`python -m tests.bench.overhead [--films N]` starts a service of its own. One film after the other is ordered, so that
nothing waits, and polled every second. Printed are the seconds from the order to the poll that finds the film, less its
`inference_time_s`; and the same to the film's end by the database's clock, which is without the grain of the polls.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import httpx
import psycopg

from tests.live_service import Service, start, stop

POLL_SECONDS = 1.0
# The first films load the model and open connections.
WARM_UP = 3
ORDER: dict[str, Any] = {"model": "synthetic", "prompt": "bars", "seconds": 5, "size": "832x480"}


def measure_film(client: httpx.Client, database: psycopg.Connection[Any]) -> tuple[float, float]:
    """Order a film; return the seconds beyond its inference until a poll found it, and until it had ended."""
    (sent_at,) = database.execute("SELECT clock_timestamp()").fetchone() or (None,)
    began = time.perf_counter()
    video = client.post("/v1/videos", json=ORDER).raise_for_status().json()
    while video["status"] in ("queued", "in_progress"):
        time.sleep(POLL_SECONDS)
        video = client.get(f"/v1/videos/{video['id']}").raise_for_status().json()
    polled = time.perf_counter() - began
    assert video["status"] == "completed", video
    query = "SELECT extract(epoch FROM finished_at - %s) FROM jobs WHERE id = %s"
    (seconds,) = database.execute(query, [sent_at, video["id"]]).fetchone() or (None,)
    inference: float = video["inference_time_s"]
    return polled - inference, float(seconds) - inference


def measure(service: Service, films: int) -> list[tuple[float, float]]:
    """Return what `measure_film` returns of each of some films after the first ones."""
    url = service.servers()["database_url"]
    with service.client("pro") as client, psycopg.connect(url, autocommit=True) as database:
        return [measure_film(client, database) for _ in range(WARM_UP + films)][WARM_UP:]


def show(label: str, seconds: list[float]) -> None:
    """Print the middle and the tail of some times."""
    print(f"{label}: {median(seconds):.2f} s in the middle, {quantiles(seconds, n=10)[-1]:.2f} s at p90")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--films", type=int, default=20)
    films = parser.parse_args().films
    with tempfile.TemporaryDirectory() as folder:
        service = start(Path(folder) / "home")
        try:
            times = measure(service, films)
        finally:
            stop(service)
    polled, ended = zip(*times, strict=True)
    show(f"overhead of {films} films, polled every {POLL_SECONDS:.0f} s", list(polled))
    show("overhead without the polls' grain (aim: 0.3 s)", list(ended))


if __name__ == "__main__":
    main()
