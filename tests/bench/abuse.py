"""How long others wait beside hostile bodies and beside one customer's bursts, on a service of its own.

`python -m tests.bench.abuse` prints the longest delay of /healthz while every route is sent bodies made to be expensive
(aim: 250 ms), and the delay of another account's reads beside 100 storyboards, 100 estimates and 300 new streams of one
account at once (aim: 0.5 s at p99).
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import cycle
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median, quantiles
from time import monotonic, perf_counter

import httpx

from tests.abuse.bodies import hostile_bodies, routes_with_bodies
from tests.live_service import Service, start, stop

MAIN_ROUTES = ("/theme", "/sign-in", "/v1/videos", "/v1/webhook_endpoints", "/v1/assets", "/mcp")
SHOTS = [{"prompt": f"a red circle moves left, part {number}", "seconds": 5} for number in range(24)]
ORDER = {"model": "synthetic", "shots": SHOTS, "resolution": "480P"}
BURST, STREAMS = 100, 300


class Probe:
    """A process that asks for one address again and again, and how long each answer took, in seconds."""

    def __init__(self, base_url: str, path: str, *, key: str = "", pause: float = 0.01) -> None:
        context = multiprocessing.get_context("spawn")
        self._line, theirs = context.Pipe()
        self._process = context.Process(target=_probe, args=(base_url, path, key, pause, theirs))

    def __enter__(self) -> "Probe":
        self._process.start()
        self._line.recv()
        return self

    def seconds(self) -> list[float]:
        """Return how long each answer since the last call took."""
        self._line.send("report")
        durations: list[float] = self._line.recv()
        return durations

    def __exit__(self, *_: object) -> None:
        self._line.send("end")
        self._process.join()


def _probe(base_url: str, path: str, key: str, pause: float, line: Connection) -> None:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    durations: list[float] = []
    with httpx.Client(base_url=base_url, headers=headers, timeout=120) as client:
        client.get(path).raise_for_status()
        line.send("ready")
        while True:
            if line.poll(pause):
                if line.recv() == "end":
                    return
                line.send(durations)
                durations = []
            begun = perf_counter()
            client.get(path).raise_for_status()
            durations.append(perf_counter() - begun)


def spread(seconds: list[float]) -> str:
    """Return the middle, the slowest hundredth and the longest, in milliseconds."""
    slowest = quantiles(seconds, n=100, method="inclusive")[98] if len(seconds) > 1 else seconds[0]
    return f"p50 {median(seconds) * 1000:.0f}, p99 {slowest * 1000:.0f}, max {max(seconds) * 1000:.0f} ms"


def picture_body() -> tuple[bytes, dict[str, str]]:
    """Return an order, and a call of a tool, with a picture of 23 MiB: what a customer may send."""
    url = "data:image/png;base64," + "A" * (31 * 2**20)
    call = {"name": "estimate", "arguments": {"order": {"prompt": "a", "first_frame": url}}}
    body = {"prompt": "a", "first_frame": url, "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    accept = {"accept": "application/json, text/event-stream"}
    return json.dumps({**body, "first_frame": ""}).encode(), {"content-type": "application/json", **accept}


def send_bodies(service: Service, key: str) -> None:
    """Send each route one kind of body after another, and the main routes all of them, with a key or without."""
    bodies = {**hostile_bodies(), "a large picture": picture_body()}
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with Probe(service.base_url, "/healthz") as health:
        health.seconds()
        longest: list[tuple[float, str]] = []
        statuses: Counter[int] = Counter()
        kinds = cycle(bodies)
        with httpx.Client(base_url=service.base_url, headers=headers, timeout=120) as client:
            for method, path in routes_with_bodies():
                for name in bodies if path in MAIN_ROUTES else [next(kinds)]:
                    raw, fields = bodies[name]
                    with suppress(httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
                        statuses[client.request(method, path, content=raw, headers=fields).status_code] += 1
                    longest.append((max(health.seconds(), default=0.0), f"{method} {path} {name}"))
    worst = sorted(longest, reverse=True)[:3]
    print(f"{'with' if key else 'without'} a key, {len(longest)} bodies of 31 MiB, answers {dict(statuses)}")
    for seconds, name in worst:
        print(f"  /healthz waited up to {seconds * 1000:.0f} ms beside {name} (aim 250)")


async def _together(client: httpx.AsyncClient, count: int, method: str, path: str, body: object) -> Counter[int]:
    requests = (client.request(method, path, json=body) for _ in range(count))
    answers = await asyncio.gather(*requests, return_exceptions=True)
    return Counter(answer.status_code if isinstance(answer, httpx.Response) else 0 for answer in answers)


async def _open_streams(client: httpx.AsyncClient, video_id: str) -> Counter[int]:
    async def first_bytes() -> int:
        async with client.stream("GET", f"/v1/videos/{video_id}/events") as stream:
            async for _ in stream.aiter_bytes():
                break
            return stream.status_code

    answers = await asyncio.gather(*(first_bytes() for _ in range(STREAMS)), return_exceptions=True)
    return Counter(answer if isinstance(answer, int) else 0 for answer in answers)


async def _nothing() -> Counter[int]:
    await asyncio.sleep(0.1)
    return Counter()


Burst = Callable[[httpx.AsyncClient], Awaitable[Counter[int]]]


def bursts(video_id: str) -> dict[str, Burst]:
    """Return what one customer sends at once, by name."""
    return {
        "nothing": lambda _: _nothing(),
        f"{BURST} storyboards": lambda client: _together(client, BURST, "POST", "/v1/videos", ORDER),
        f"{BURST} estimates": lambda client: _together(client, BURST, "POST", "/v1/videos/estimates", ORDER),
        f"{STREAMS} new streams": lambda client: _open_streams(client, video_id),
    }


def time_reads(service: Service, seconds: float) -> None:
    """Print how long another account's reads take beside bursts that are repeated for so many seconds."""

    async def repeat(burst: Burst) -> Counter[int]:
        statuses: Counter[int] = Counter()
        headers = {"Authorization": f"Bearer {service.keys['enterprise']}"}
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=service.base_url, headers=headers, timeout=120, limits=limits) as client:
            deadline = monotonic() + seconds
            while monotonic() < deadline:
                statuses += await burst(client)
        return statuses

    with service.client("enterprise") as client:
        video_id = client.post("/v1/videos", json=ORDER).raise_for_status().json()["id"]
    with (
        Probe(service.base_url, "/v1/videos?limit=1", key=service.keys["pro"], pause=0.1) as reads,
        Probe(service.base_url, "/healthz", pause=0.05) as health,
    ):
        for name, burst in bursts(video_id).items():
            reads.seconds(), health.seconds()
            statuses = asyncio.run(repeat(burst))
            load = os.getloadavg()[0]
            print(f"beside {name} at once for {seconds:.0f} s (load {load:.1f}), answers {dict(statuses)}:")
            print(f"  another account's reads {spread(reads.seconds())} (aim p99 500)")
            print(f"  /healthz {spread(health.seconds())}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each kind of burst")
    parser.add_argument("--only", choices=["bodies", "bursts"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        # Films are rendered on other machines; here they would take the processors that are measured.
        service = start(Path(folder) / "home", CINEMETER_POOLS="finish")
        try:
            if options.only != "bursts":
                send_bodies(service, "")
                send_bodies(service, service.keys["enterprise"])
            if options.only != "bodies":
                time_reads(service, options.seconds)
        finally:
            stop(service)


if __name__ == "__main__":
    main()
