"""A busy day over HTTP: a whole service with the synthetic engine, and clients that order, poll, cancel and listen.

Clients keep to the protocol: they ask again when `openai-poll-after-ms` says, with the ETag of the last answer. An
order that is refused (429, 503) is counted and not repeated, as its client is one of many. Workers are killed.
"""

import argparse
import asyncio
import contextlib
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx
from sqlalchemy import text

from app.db import forget_engines, transaction
from app.jobs.states import is_final
from app.settings import set_environment
from tests.app.webhooks.factories import open_endpoint
from tests.bench.sink import Sink
from tests.live_service import Service, start, stop
from tests.load.demand import Arrival, Customer, arrivals, open_customers
from tests.load.figures import jain, spread
from tests.load.report import print_outcome

CRASH_SECONDS = 45.0
# After the last order: for the films, and then for the webhooks.
DRAIN_SECONDS = 900.0
WEBHOOK_SECONDS = 120.0
SWING_SECONDS = 300.0
POLL_SECONDS = 5.0
TERMINAL = text(
    "SELECT id FROM events WHERE type IN ('video.completed', 'video.failed', 'video.cancelled', 'video.expired')"
)
STARTED = text(
    "SELECT account_id, CAST(count(*) FILTER (WHERE started_at IS NOT NULL) AS float8) / count(*) FROM jobs GROUP BY 1"
)


@dataclass
class Answers:
    """What the clients saw: the seconds and the statuses of each route, and requests that got no answer."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    statuses: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    async def ask(self, client: httpx.AsyncClient, route: str, path: str, **options: Any) -> httpx.Response | None:
        """Send a request (`route` is its method and pattern); return its answer, or None where there was none."""
        began = time.perf_counter()
        try:
            answer = await client.request(route.split()[0], path, **options)
        except httpx.TransportError as error:
            self.statuses[route][type(error).__name__] += 1
            return None
        self.seconds[route].append(time.perf_counter() - began)
        self.statuses[route][str(answer.status_code)] += 1
        return answer


class LiveDay:
    """The clients of one run; `run` returns when all of their films have ended, or after DRAIN_SECONDS."""

    def __init__(self, service: Service, customers: list[Customer], options: argparse.Namespace) -> None:
        self._service, self._customers, self._options = service, customers, options
        self._random = Random(options.seed)
        self.answers, self.crashes, self.started_parts = Answers(), 0, list[float]()
        self.ended: Counter[str] = Counter()

    async def run(self) -> None:
        """Send orders for the minutes of the options, and follow them to their ends."""
        async with contextlib.AsyncExitStack() as stack:
            limits = httpx.Limits(max_connections=1_000)
            client = await stack.enter_async_context(
                httpx.AsyncClient(base_url=self._service.base_url, limits=limits, timeout=60)
            )
            crasher = asyncio.create_task(self._crash_workers())
            followed = await self._send(client)
            with transaction() as session:
                self.started_parts = [part for _, part in session.execute(STARTED)]
            crasher.cancel()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_SECONDS):
                    await asyncio.gather(*followed)

    async def _send(self, client: httpx.AsyncClient) -> list[asyncio.Task[None]]:
        """Order when the orders come, without waiting for answers; return the tasks that follow the films."""
        tasks, began = [], time.monotonic()
        count, rate = len(self._customers), self._options.rate
        for arrival in arrivals(self._random, count, rate, swing_seconds=SWING_SECONDS):
            if arrival.at > 60 * self._options.minutes:
                break
            await asyncio.sleep(max(0.0, began + arrival.at - time.monotonic()))
            tasks.append(asyncio.create_task(self._order(client, arrival)))
        return tasks

    async def _order(self, client: httpx.AsyncClient, arrival: Arrival) -> None:
        headers = {"Authorization": f"Bearer {self._customers[arrival.customer].key}"}
        body = {**arrival.body(), "seconds": 1, "resolution": "480P"}
        answer = await self.answers.ask(client, "POST /v1/videos", "/v1/videos", json=body, headers=headers)
        if answer is None or answer.status_code != 200:
            return
        path = f"/v1/videos/{answer.json()['id']}"
        if arrival.cancelled_after is not None:
            await asyncio.sleep(arrival.cancelled_after)
            await self.answers.ask(client, "POST /v1/videos/{id}/cancel", f"{path}/cancel", headers=headers)
        await self._poll(client, path, headers, float(answer.headers.get("openai-poll-after-ms", 1000)) / 1000)

    async def _poll(self, client: httpx.AsyncClient, path: str, headers: dict[str, str], seconds: float) -> None:
        state, etag = "queued", ""
        while not is_final(state):
            await asyncio.sleep(seconds)
            conditions = {**headers, "If-None-Match": etag} if etag else headers
            answer = await self.answers.ask(client, "GET /v1/videos/{id}", path, headers=conditions)
            if answer is None or answer.status_code not in (200, 304):
                seconds = POLL_SECONDS
                continue
            seconds = float(answer.headers.get("openai-poll-after-ms", 1000)) / 1000
            if answer.status_code == 200:
                state, etag = answer.json()["status"], answer.headers["etag"]
        self.ended[state] += 1

    async def _crash_workers(self) -> None:
        while True:
            await asyncio.sleep(CRASH_SECONDS)
            children = self._service.processes("worker-child")
            if children:
                self._random.choice(children).kill()
                self.crashes += 1


def undelivered(sink: Sink) -> int:
    """Wait for the courier; return how many terminal events did not reach the receiver."""
    delivered: set[str] = set()
    until = time.monotonic() + WEBHOOK_SECONDS
    while True:
        delivered |= {event_id for _, event_id, _ in sink.noted()}
        with transaction() as session:
            missing = len(set(session.scalars(TERMINAL)) - delivered)
        if not missing or time.monotonic() > until:
            return missing
        time.sleep(1)


def run_live(options: argparse.Namespace) -> int:
    """Run the service and its clients, and print what they saw; return 1 where a promise was broken, else 0."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sink = stack.enter_context(Sink())
        service = start(folder / "home", CINEMETER_API_PROCESSES="0")
        stack.callback(stop, service)
        set_environment(**service.servers(), home=service.home, webhook_allow_private=True, log_level="ERROR")
        stack.callback(forget_engines)
        customers = open_customers(options.accounts)
        with transaction() as session:
            for number, customer in enumerate(customers):
                session.add(customer.caller.account)
                open_endpoint(session, customer.caller, f"{sink.url}/{number}", event_types=["video.*"])
        day, began = LiveDay(service, customers, options), time.monotonic()
        asyncio.run(day.run())
        print_day(day, time.monotonic() - began)
        missing = undelivered(sink)
        print(f"terminal events that were not delivered: {missing}")
        findings = print_outcome()
    return int(bool(missing or findings))


def print_day(day: LiveDay, seconds: float) -> None:
    """Print what the clients saw in so many seconds."""
    count = sum(day.ended.values())
    states = ", ".join(f"{number} {state}" for state, number in sorted(day.ended.items()))
    print(
        f"{count} films ended in {seconds:.0f} s, {count / seconds:.2f}/s: {states}; {day.crashes} workers were killed"
    )
    for route, times in sorted(day.answers.seconds.items()):
        statuses = ", ".join(f"{number} × {status}" for status, number in sorted(day.answers.statuses[route].items()))
        print(f"{route}: {spread([1000 * each for each in times], 'ms', 0)}; {statuses}")
    fairness = jain(day.started_parts)
    print(f"fairness (Jain) of the part of each account's films that had started by the last order: {fairness:.3f}")
