"""More requests at once than a process can answer: some are refused, and none is begun for a client that has left."""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvicorn
from fastapi import FastAPI
from sqlalchemy import Engine, text

from app.accounts.memberships import change_membership
from app.api.application import create_app
from app.clock import now
from app.db import transaction
from app.request_gate import PLACES, WORK_LIMITS
from app.request_limits import WorkKind
from tests.api_client import World

CALLERS = 400
ORDER = {"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}
ENDS = {200: "answered", 429: "limited", 503: "refused"}

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextmanager
def served(app: FastAPI) -> Iterator[int]:
    """Serve the API over HTTP from a thread of this process until it has answered what it began; yield its port."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            threading.Event().wait(0.01)
        port: int = server.servers[0].sockets[0].getsockname()[1]
        yield port
    finally:
        server.should_exit = True
        thread.join(timeout=120)


async def connect(port: int, count: int) -> list[Connection]:
    """Open connections before the first order is sent, so that the orders come at once."""
    return [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]


def send(connection: Connection, headers: dict[str, str]) -> None:
    body = json.dumps(ORDER).encode()
    fields = {"Host": "here", "Content-Type": "application/json", "Content-Length": str(len(body)), **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    connection[1].write(f"POST /v1/videos HTTP/1.1\r\n{head}\r\n".encode() + body)


async def end_of(connection: Connection) -> str:
    """Return how an order ended, from the head of its answer."""
    head = (await connection[0].readuntil(b"\r\n\r\n")).decode().lower()
    end = ENDS[int(head.split()[1])]
    assert end == "answered" or "\nretry-after:" in head
    connection[1].close()
    return end


@pytest.fixture
def crowd(world: World, engine: Engine) -> World:
    """The world, whose two accounts may send and queue more than a process can answer."""
    with transaction(engine) as session:
        for account_id in (world.alice_id, world.bob_id):
            change_membership(session, account_id, "enterprise", at=now(session))
    return world


def headers_of(crowd: World, number: int) -> dict[str, str]:
    key = crowd.alice if number % 2 else crowd.bob
    return {"Authorization": f"Bearer {key}", "Idempotency-Key": f"order {number}"}


def orders(engine: Engine) -> set[int]:
    with engine.connect() as connection:
        return {int(key.rpartition(" ")[2]) for key in connection.scalars(text("SELECT key FROM submissions"))}


@pytest.mark.timeout(300)
def test_callers_above_the_ceiling_are_refused_before_anything_is_done(crowd: World, engine: Engine) -> None:
    async def burst(port: int) -> list[str]:
        connections = await connect(port, CALLERS)
        for number, connection in enumerate(connections):
            send(connection, headers_of(crowd, number))
        return await asyncio.gather(*(end_of(connection) for connection in connections))

    with served(create_app()) as port:
        ends = asyncio.run(burst(port))
    kinds = Counter(ends)
    assert kinds["answered"] >= 2 * WORK_LIMITS[WorkKind.ORDER].each
    assert kinds["refused"] + kinds["limited"] >= CALLERS / 4
    assert orders(engine) == {number for number, end in enumerate(ends) if end == "answered"}


@pytest.mark.timeout(300)
def test_orders_whose_callers_have_left_are_not_begun(crowd: World, engine: Engine) -> None:
    """The first orders wait in the database; all callers leave; the others are never begun."""

    async def leave(port: int) -> None:
        connections = await connect(port, 120)
        for number, connection in enumerate(connections):
            send(connection, headers_of(crowd, number))
            await connection[1].drain()
        for _, writer in connections:
            writer.close()
            await writer.wait_closed()

    with served(create_app()) as port, engine.begin() as holding:
        for account_id in (crowd.alice_id, crowd.bob_id):
            lock = text("SELECT pg_advisory_xact_lock(hashtext(:name))")
            holding.execute(lock, {"name": f"submit:{account_id}"})
        asyncio.run(leave(port))
    begun = orders(engine)
    assert len(begun) <= PLACES
    for number in begun:
        headers = {"Content-Type": "application/json", **headers_of(crowd, number)}
        again = crowd.app.post("/v1/videos", content=json.dumps(ORDER), headers=headers)
        assert again.status_code == 200, "found again by its key"
    assert orders(engine) == begun
