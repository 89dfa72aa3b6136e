"""An API that is told to stop ends in time: with open streams, a busy Redis, and agents that go on asking."""

import asyncio
import contextlib
import os
import random
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import redis
from fastapi import FastAPI

from app import progress
from app.accounts.keys import issue_key
from app.accounts.members import add_member
from app.cli.api_server import make_server
from app.cli.asgi import create_site
from app.db import transaction
from app.jobs.live_feed import LiveFeed
from app.settings import child_environment, get_settings
from tests.api_client import SCOPES, World

# CINEMETER_STOPS=500 took six minutes.
STOPS = int(os.environ.get("CINEMETER_STOPS", "100"))  # noqa: TID251 — the length of this test, no setting
# What an operator is promised: a process that is told to stop has ended after so many seconds.
SECONDS = 5.0
# A machine that is busy with other tests may take longer; what hangs, hangs for ever.
PATIENCE_SECONDS = 60.0
ORDER: dict[str, Any] = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}
PASSWORD = "correct horse battery"
# Made once: it reads all certificates of the system.
NO_TLS = ssl.create_default_context()
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "list", "arguments": {"limit": 5}}}


@dataclass
class Customer:
    """Somebody with unfinished films and both ways to watch them: a key, and the cookies of a signed-in browser."""

    account_id: str
    videos: list[str]
    cookies: dict[str, str]

    def client(self, address: str) -> httpx.AsyncClient:
        """A client with a new key, of an account that has asked for nothing yet: a hundred stops take less than a
        minute, and together they would meet the account's rate limit."""
        with redis.Redis.from_url(get_settings().redis_url) as counters:
            for counter in counters.scan_iter("cinemeter:uses:*"):
                counters.delete(counter)
        with transaction() as session:
            key = issue_key(session, self.account_id, scopes=SCOPES)[1]
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.AsyncClient(base_url=address, headers=headers, cookies=self.cookies, timeout=60, verify=NO_TLS)


@pytest.fixture
def customer(world: World) -> Customer:
    with transaction() as session:
        roles = ("owner", "creator")
        add_member(session, world.alice_id, "alice@example.com", roles=roles, name="alice", password=PASSWORD)
    videos = [world.post("/v1/videos", ORDER).json()["id"] for _ in range(4)]
    return Customer(world.alice_id, videos, asyncio.run(sign_in()))


async def sign_in() -> dict[str, str]:
    transport = httpx.ASGITransport(create_site())
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        page = await client.get("/sign-in")
        field = re.search(r'name="csrf" value="([^"]*)"', page.text)
        form = {"csrf": field[1] if field else "", "email": "alice@example.com", "password": PASSWORD}
        answer = await client.post("/sign-in", data=form, headers={"sec-fetch-site": "same-origin"})
        assert answer.status_code == 303, answer.text
        return dict(client.cookies)


# A process of its own: as a thread it would keep the interpreter from the APIs that are stopped.
PUBLISH = """
import sys, time, redis
url, *channels = sys.argv[1:]
message = '{"type": "progress", "progress": 7, "preview": "' + "x" * 4000 + '"}'
with redis.Redis.from_url(url) as client:
    while True:
        for channel in channels:
            client.publish(channel, message)
        time.sleep(0.005)
"""


@pytest.fixture
def busy_redis(redis_url: str, customer: Customer) -> Iterator[None]:
    """A Redis in which something happens to each film all the time."""
    channels = [progress.channel(video) for video in customer.videos]
    publisher = subprocess.Popen([sys.executable, "-c", PUBLISH, redis_url, *channels])
    yield
    assert publisher.poll() is None
    publisher.kill()
    publisher.wait()


def test_a_listener_ends_at_whatever_moment_it_is_cancelled(customer: Customer, busy_redis: None) -> None:
    """One turn of the event loop after another, from the first byte to the first messages."""

    async def cancelled_after(turns: int) -> bool:
        listener = asyncio.create_task(progress.listen(lambda: customer.videos, lambda job_id, message: None))
        for _ in range(turns):
            await asyncio.sleep(0)
        listener.cancel()
        await asyncio.wait({listener}, timeout=PATIENCE_SECONDS)
        return listener.done()

    async def all_of_them() -> list[int]:
        return [turns for turns in range(120) if not await cancelled_after(turns)]

    assert asyncio.run(all_of_them()) == []


def test_a_feed_ends_though_its_task_does_not_hear_the_first_call() -> None:
    """Whatever library loses a cancellation: the task is cancelled again."""

    async def deaf() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    async def end() -> bool:
        feed = LiveFeed()
        await feed.__aenter__()
        task = asyncio.create_task(deaf())
        feed._tasks.append(task)
        await asyncio.sleep(0)
        await asyncio.wait_for(feed.__aexit__(), PATIENCE_SECONDS)
        return task.done()

    assert asyncio.run(end())


def test_an_api_that_is_told_to_stop_ends(customer: Customer, busy_redis: None) -> None:
    assert in_thread(stops(customer, 8, seconds=PATIENCE_SECONDS)) == []


@pytest.mark.deep
@pytest.mark.timeout(1800)
def test_an_api_that_is_told_to_stop_ends_every_time(customer: Customer, busy_redis: None) -> None:
    assert in_thread(stops(customer, STOPS, seconds=SECONDS, at_once=2)) == []


def in_thread(work: Coroutine[Any, Any, list[str]]) -> list[str]:
    """Run a coroutine in a thread of its own: uvicorn leaves signals alone there."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


async def stops(customer: Customer, count: int, *, seconds: float, at_once: int = 1) -> list[str]:
    """Start and stop an API so many times, some beside one another. Returns what was wrong."""
    numbers = iter(range(count))
    faults: list[str] = []

    async def one_after_another() -> None:
        # One site is started again and again: to build its routes costs more than all that follows.
        site = create_site()
        for number in numbers:
            wrong = await stop_once(site, customer, random.Random(number), seconds)
            faults.extend(f"stop {number}: {fault}" for fault in wrong)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(one_after_another())
    return faults


async def stop_once(site: FastAPI, customer: Customer, dice: random.Random, seconds: float) -> list[str]:
    """Start an API, open streams, have others come and go, and tell it to stop. Returns what was wrong."""
    server = make_server(site, port=0)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        assert not serving.done()
        await asyncio.sleep(0.005)
    address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    async with customer.client(address) as client:
        streams = await open_streams(client, customer)
        guests = [
            asyncio.create_task(come_and_go(client, customer.videos[2:])),
            *(asyncio.create_task(ask_as_agent(client)) for _ in range(2)),
        ]
        await asyncio.sleep(dice.uniform(0, 0.1))
        server.should_exit = True
        await asyncio.wait({serving}, timeout=seconds)
        faults = [] if serving.done() else [waiting_tasks(seconds)]
        for guest in guests:
            guest.cancel()
        # A stream that ends says so; one that is cut off is an error at its reader.
        answers = await asyncio.gather(*streams, return_exceptions=True)
        await asyncio.gather(*guests, serving, return_exceptions=True)
    return faults + [f"a stream was cut off: {answer!r}" for answer in answers if answer is not None]


async def open_streams(client: httpx.AsyncClient, customer: Customer) -> list[asyncio.Task[None]]:
    """LiveFeed the films as a program and as a page does; returns when each stream has brought something."""
    paths = [f"/v1/videos/{video}/events" for video in customer.videos[:2]]
    paths.append("/films/live?" + "&".join(f"id={video}" for video in customer.videos))
    opened = [asyncio.Event() for _ in paths]
    streams = [asyncio.create_task(read(client, path, each)) for path, each in zip(paths, opened, strict=True)]
    for event in opened:
        await event.wait()
    return streams


async def read(client: httpx.AsyncClient, path: str, opened: asyncio.Event) -> None:
    try:
        async with client.stream("GET", path) as answer:
            assert answer.status_code == 200, await answer.aread()
            async for _ in answer.aiter_bytes():
                opened.set()
    finally:
        opened.set()


async def come_and_go(client: httpx.AsyncClient, videos: list[str]) -> None:
    """Open one stream after another, so that the API subscribes and unsubscribes all the time."""
    with contextlib.suppress(httpx.TransportError):
        while True:
            for video in videos:
                async with client.stream("GET", f"/v1/videos/{video}/events") as answer:
                    await anext(answer.aiter_bytes())


async def ask_as_agent(client: httpx.AsyncClient) -> None:
    """Call a tool over MCP again and again."""
    with contextlib.suppress(httpx.TransportError):
        while True:
            await client.post("/mcp", json=CALL, headers={"accept": "application/json, text/event-stream"})


def waiting_tasks(seconds: float) -> str:
    """Say which tasks of this loop have not ended, and where each waits."""
    lines = [f"the API has not ended after {seconds:g} s"]
    for task in asyncio.all_tasks():
        step: Any = task.get_coro()
        frames = []
        while frame := getattr(step, "cr_frame", None) or getattr(step, "ag_frame", None):
            frames.append(f"{frame.f_code.co_qualname}:{frame.f_lineno}")
            step = getattr(step, "cr_await", None) or getattr(step, "ag_await", None)
        lines.append(f"{task.get_name()}, cancelled {task.cancelling()} times: {' > '.join(frames)}")
    return "\n  ".join(lines)


def test_the_process_ends_within_its_grace(customer: Customer, busy_redis: None) -> None:
    """The role itself, as it runs in production: SIGTERM while streams of both kinds are open."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli.serve", "api"], env=child_environment(port=port, api_processes=1)
    )
    try:
        assert asyncio.run(watch_it_end(process, customer, f"http://127.0.0.1:{port}")) == [None] * 3
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
    assert process.returncode == -signal.SIGTERM


async def watch_it_end(process: subprocess.Popen[bytes], customer: Customer, address: str) -> list[Any]:
    """Open streams, have the process stop, and return how each stream ended once the process has."""
    async with customer.client(address) as client:
        while True:
            assert process.poll() is None, "the API did not come up"
            with contextlib.suppress(httpx.TransportError):
                await client.get("/healthz")
                break
            await asyncio.sleep(0.05)
        streams = await open_streams(client, customer)
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait, PATIENCE_SECONDS)
        return await asyncio.gather(*streams, return_exceptions=True)
