"""Requests that never end: their connections are closed, their bodies bounded, and nothing of them stays."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
import uvicorn

from app.api import request_body
from app.api.application import create_app
from app.cli.connection_deadlines import HEAD_BYTES_MAX, DeadlineProtocol
from app.concurrency import ConcurrencyLimit
from app.settings import get_settings
from tests.api_client import World

SECONDS = 0.3


@contextmanager
def server(app: Any, protocol: type[asyncio.Protocol]) -> Iterator[uvicorn.Server]:
    config = uvicorn.Config(app, port=0, http=protocol, log_config=None, timeout_graceful_shutdown=1)
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        assert thread.is_alive()
        threading.Event().wait(0.01)
    try:
        yield running
    finally:
        running.should_exit = True
        thread.join()


def address_of(running: uvicorn.Server) -> tuple[str, int]:
    where: tuple[str, int] = running.servers[0].sockets[0].getsockname()
    return where


@pytest.fixture
def address(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    monkeypatch.setattr(DeadlineProtocol, "head_seconds", SECONDS)
    monkeypatch.setattr(request_body, "GRACE_SECONDS", SECONDS)
    with server(create_app(), DeadlineProtocol) as running:
        yield address_of(running)


def answer_of(connection: socket.socket) -> bytes:
    """Read until the server closes the connection."""
    connection.settimeout(30)
    pieces = []
    while piece := connection.recv(65_536):
        pieces.append(piece)
    return b"".join(pieces)


HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    "first",
    [b"", b"GET /heal", b"GET /healthz HTTP/1.1\r\nHost: x\r\n", HEALTH, HEALTH + b"GET /heal"],
    ids=["nothing", "half a line", "half a head", "a request and then nothing", "a request and half a line"],
)
def test_a_connection_that_asks_for_nothing_is_closed(address: tuple[str, int], first: bytes) -> None:
    with closing(socket.create_connection(address)) as connection:
        connection.sendall(first)
        answer = answer_of(connection)
    assert answer.count(b"200 OK") == first.count(HEALTH)


@pytest.mark.parametrize(
    "endless",
    [
        b"GET /" + b"a" * HEAD_BYTES_MAX + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"a" * HEAD_BYTES_MAX,
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"X: a\r\n" * HEAD_BYTES_MAX,
        b"POST /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: a\r\n" * HEAD_BYTES_MAX,
    ],
    ids=["an address", "a header", "headers", "trailers"],
)
def test_a_head_without_an_end_is_refused(address: tuple[str, int], endless: bytes) -> None:
    with closing(socket.create_connection(address)) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(endless)
        answer = answer_of(connection)
        assert b" 200 OK" not in answer


def test_two_lengths_of_one_body_are_refused(address: tuple[str, int]) -> None:
    both = b"POST /v1/videos HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    with closing(socket.create_connection(address)) as connection:
        connection.sendall(both)
        assert answer_of(connection).startswith(b"HTTP/1.1 400 ")


def test_a_body_that_stops_is_answered_and_its_connection_closed(world: World, address: tuple[str, int]) -> None:
    head = f"POST /v1/videos HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {world.alice}\r\nContent-Length: 1000\r\n\r\n"
    with closing(socket.create_connection(address)) as connection:
        connection.sendall(head.encode() + b'{"prompt"')
        answer = answer_of(connection)
    assert b"408 Request Timeout" in answer
    assert b"request_timeout" in answer


def test_the_rest_of_a_body_that_was_refused_is_not_waited_for(address: tuple[str, int]) -> None:
    with closing(socket.create_connection(address)) as connection:
        connection.sendall(b"POST /v1/videos HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nhalf")
        answer = answer_of(connection)
    assert b" 401 " in answer


def test_a_body_that_goes_on_may_take_longer(
    world: World, address: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte that arrives moves the deadline: this body takes more than the grace in all."""
    monkeypatch.setattr(request_body, "GRACE_SECONDS", 2.0)
    pieces = [b'{"model": "', b"x" * 40_000, b'", "', b"y" * 40_000, b'": "', b"z" * 40_000, b'"}']
    head = (
        f"POST /v1/videos HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {world.alice}\r\nConnection: close\r\n"
        f"Content-Length: {sum(map(len, pieces))}\r\n\r\n"
    )
    with closing(socket.create_connection(address)) as connection:
        connection.sendall(head.encode())
        for piece in pieces:
            connection.sendall(piece)
            threading.Event().wait(0.3)
        assert b" 422 " in answer_of(connection)


def test_an_answer_that_nobody_reads_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DeadlineProtocol, "read_seconds", SECONDS)
    length = 64 * 1024 * 1024

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % length)]})
        for _ in range(1024):
            await send({"type": "http.response.body", "body": bytes(length // 1024), "more_body": True})
        await send({"type": "http.response.body"})

    with server(app, DeadlineProtocol) as running, closing(socket.create_connection(address_of(running))) as connection:
        connection.sendall(HEALTH)
        assert connection.recv(1)
        while running.server_state.connections:
            threading.Event().wait(0.01)
        # What the kernel had taken already is read, or cut off as well.
        with contextlib.suppress(ConnectionError):
            assert len(answer_of(connection)) < length


def test_the_bytes_of_unfinished_bodies_are_bounded_and_given_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sender's bodies count while they are received, whether they arrive or not."""
    limit = ConcurrencyLimit("bytes of large bodies", "received", each=4_000_000, together=8_000_000)
    monkeypatch.setattr(request_body, "_disk_slot", limit.hold)
    url = world.post("/v1/assets/uploads", {"content_type": "video/mp4", "bytes": 3_000_000}).json()["upload"]["url"]
    path = url.removeprefix(get_settings().base_url())
    with limit.hold(world.alice_id, amount=2_000_000):
        refused = world.app.put(path, content=b"x" * 3_000_000)
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        assert int(refused.headers["retry-after"]) > 0
    for _ in range(3):
        assert world.app.put(path, content=b"x" * 3_000_001).status_code == 413
    assert world.app.put(path, content=b"x" * 3_000_000).status_code == 200
