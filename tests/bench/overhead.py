"""Measure what the service adds to the time of a film on the engine, as SGLang's benchmark would see it.

`python -m tests.bench.overhead [--films N] [--model ID] [--seconds N] [--size WxH]` starts a service of its own. One
film after the other is ordered, so that nothing waits, and polled every second. Printed are the seconds from the order
to the poll that finds the film, less its `inference_time_s`; and the same to the film's end by the database's clock,
which is without the grain of the polls, with its parts, and the processor seconds of the worker beside the inference.

The model `synthetic` draws its frames at once, so all of the encoder's work is overhead. That of a model which decodes
as slowly as it encodes, such as `demo`, is hidden behind the inference. A film of several segments has the parts of
all of them in "the segments' takes".
"""

import argparse
import os
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

import httpx
import psycopg

from tests.live_service import Service, start, stop

POLL_SECONDS = 1.0
# The first films load the model and open connections.
WARM_UP = 3
ORDER: dict[str, Any] = {"prompt": "a red circle moves right on a blue background"}
INFERENCE = ("text", "denoise", "decode")
TAKES = """
SELECT kind, extract(epoch FROM started_at - %s)::float, extract(epoch FROM ended_at - %s)::float, meter
  FROM takes WHERE job_id = %s ORDER BY started_at
"""


class Overhead(NamedTuple):
    """The seconds that the service added to one film, and the parts of them. `polled` has the grain of the polls."""

    polled: float
    ended: float
    until_claim: float
    segment: float
    until_finish: float
    finish: float
    processor: float


def measure_film(client: httpx.Client, database: psycopg.Connection[Any], order: dict[str, Any]) -> Overhead:
    """Order a film and return what the service added to it."""
    (sent_at,) = database.execute("SELECT clock_timestamp()").fetchone() or (None,)
    began = time.perf_counter()
    video = client.post("/v1/videos", json=order).raise_for_status().json()
    while video["status"] in ("queued", "in_progress"):
        time.sleep(POLL_SECONDS)
        video = client.get(f"/v1/videos/{video['id']}").raise_for_status().json()
    polled = time.perf_counter() - began
    assert video["status"] == "completed", video
    inference: float = video["inference_time_s"]
    rows = database.execute(TAKES, [sent_at, sent_at, video["id"]]).fetchall()
    *segments, (kind, finish_claimed, ended, _) = rows
    assert kind == "finish", rows
    assert {row[0] for row in segments} == {"segment"}, rows
    claimed, rendered = segments[0][1], segments[-1][2]
    cpu = Counter[str]()
    for *_, meter in rows:
        cpu.update(meter["cpu_seconds"])
    return Overhead(
        polled - inference,
        ended - inference,
        claimed,
        rendered - claimed - inference,
        finish_claimed - rendered,
        ended - finish_claimed,
        sum(seconds for stage, seconds in cpu.items() if stage not in INFERENCE),
    )


def measure(service: Service, films: int, order: dict[str, Any]) -> list[Overhead]:
    """Return what `measure_film` returns of each of some films after the first ones."""
    url = service.servers()["database_url"]
    with service.client("pro") as client, psycopg.connect(url, autocommit=True) as database:
        return [measure_film(client, database, order) for _ in range(WARM_UP + films)][WARM_UP:]


def show(label: str, seconds: list[float]) -> None:
    """Print the least, the middle and the tail of some times."""
    tail = quantiles(seconds, n=10)[-1]
    print(f"{label}: {min(seconds):.2f} s at least, {median(seconds):.2f} s in the middle, {tail:.2f} s at p90")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--films", type=int, default=20)
    parser.add_argument("--model", default="synthetic")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--size", default="832x480")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        service = start(Path(folder) / "home")
        try:
            order = {"model": options.model, "seconds": options.seconds, "size": options.size}
            films = measure(service, options.films, ORDER | order)
        finally:
            stop(service)
    films_of = f"{options.films} films of {options.seconds} s at {options.size} by {options.model}"
    print(f"{films_of}, at a load of {os.getloadavg()[0]:.1f}")
    show(f"overhead, polled every {POLL_SECONDS:.0f} s", [film.polled for film in films])
    show("overhead without the polls' grain (aim: 0.3 s)", [film.ended for film in films])
    show("  from the order to its claim", [film.until_claim for film in films])
    show("  the segments' takes without inference", [film.segment for film in films])
    show("  from its end to the claim of the finish", [film.until_finish for film in films])
    show("  the finish", [film.finish for film in films])
    show("processor seconds of the worker beside the inference", [film.processor for film in films])


if __name__ == "__main__":
    main()
