"""What held when strangers tried, beside the suites that it is in already.

Access: `tests/app/api/test_access.py`, `tests/app/web/test_access.py`. Addresses: `tests/app/net`. Hostile media:
`tests/app/assets/test_hostile_*.py`. Requests cut off: `tests/app/api/test_bodies.py`. Here is what they lack.
"""

import random
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network

import pytest
import uvicorn
from sqlalchemy import select, update

from app.accounts.keys import issue_key, revoke_key
from app.accounts.tables import ApiKey
from app.api.application import create_app
from app.cli.connection_deadlines import DeadlineProtocol
from app.clock import now
from app.db import transaction
from app.jobs.tables import Job
from app.net.addresses import _DENIED, address_refusal, url_refusal
from app.web.tables import WebSession
from tests.api_client import SCOPES, World
from tests.app.api.test_access import MCP, ask, fill, keyed
from tests.app.web.conftest import Site
from tests.app.web.test_access import address, private

ORDER = b'{"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}'


def test_keys_that_have_ended_open_nothing(world: World) -> None:
    with transaction() as session:
        ended = {name: issue_key(session, world.alice_id, scopes=SCOPES) for name in ("revoked", "expired")}
        revoke_key(session, world.alice_id, ended["revoked"][0].id)
        past = now(session) - timedelta(seconds=1)
        session.execute(update(ApiKey).where(ApiKey.id == ended["expired"][0].id).values(expires_at=past))
    addresses = [(method, fill(route.path, {})) for method, route in keyed()] + [("POST", MCP)]
    for method, path in addresses:
        for name, (_, secret) in ended.items():
            assert ask(world, method, path, secret).status_code == 401, (method, path, name)


def test_a_session_that_has_ended_opens_no_page(site: Site) -> None:
    browsers = {name: site.browser("alice") for name in ("ended", "expired", "idle")}
    with transaction() as session:
        moment = now(session)
        rows = list(session.scalars(select(WebSession).order_by(WebSession.created_at)))
        rows[0].ended_at, rows[1].expires_at = moment, moment
        rows[2].seen_at = moment - timedelta(days=8)
    for name, browser in browsers.items():
        for path in private("GET"):
            query = "?id=nothing" if path == "/films/live" else ""
            assert browser.get(address(path) + query).url.path == "/sign-in", (path, name)


@pytest.mark.parametrize("network", _DENIED, ids=str)
def test_no_address_of_a_special_network_is_reached(network: IPv4Network | IPv6Network) -> None:
    """The first, the last and some between, also wrapped in IPv6, and as every URL that a resolver would accept."""
    dice = random.Random(str(network))
    for offset in (0, network.num_addresses - 1, *(dice.randrange(network.num_addresses) for _ in range(20))):
        one = network[offset]
        assert address_refusal(one), one
        if one.version == 6:
            assert url_refusal(f"https://[{one}]/")
            continue
        assert address_refusal(f"::ffff:{one}"), one
        number = int(one)
        octets = [number >> shift & 255 for shift in (24, 16, 8, 0)]
        for host in (
            str(one),
            str(number),
            hex(number),
            ".".join(hex(octet) for octet in octets),
            ".".join(f"0{octet:o}" for octet in octets),
            f"{octets[0]}.{number & 0xFFFFFF}",
        ):
            assert url_refusal(f"https://{host}/"), host


@pytest.fixture
def port(world: World) -> Iterator[int]:
    """The API on a port of its own, for bytes that no client would send."""
    server = uvicorn.Server(
        uvicorn.Config(create_app(), port=0, http=DeadlineProtocol, log_config=None, access_log=False)
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        threading.Event().wait(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(30)


def send(port: int, data: bytes, *, is_torn: bool = True) -> bytes:
    """Send bytes and return all that is answered; where they are torn, say that no more will come."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as line, suppress(ConnectionError):
        line.sendall(data)
        if is_torn:
            line.shutdown(socket.SHUT_WR)
        while part := line.recv(65_536):
            answer += part
    return answer


def test_a_request_torn_anywhere_makes_no_job(world: World, port: int) -> None:
    head = (
        f"POST /v1/videos HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {world.alice}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(ORDER)}\r\nConnection: close\r\n\r\n"
    ).encode()
    whole = head + ORDER
    for end in [*range(0, len(whole), 7), len(whole) - 1]:
        assert not send(port, whole[:end]).startswith(b"HTTP/1.1 2"), whole[:end]
    with transaction() as session:
        assert session.scalars(select(Job.id)).all() == []
    assert send(port, whole, is_torn=False).startswith(b"HTTP/1.1 200")
    with transaction() as session:
        assert len(session.scalars(select(Job.id)).all()) == 1


@pytest.mark.parametrize("protocol", ["h2c", "websocket"])
def test_a_request_that_offers_another_protocol_keeps_its_body(world: World, port: int, protocol: str) -> None:
    body = b'{"model": "synthetic", "prompt": "bars", "seconds": 1, "resolution": "480P"}'
    head = (
        f"POST /v1/videos/estimates HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {world.alice}\r\n"
        f"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: {protocol}\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    second = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    # In one piece, and the body in a second one, as a client that waits for an answer to its offer would not send it.
    for pieces in ((head + body + second,), (head, body, second), (head[:40], head[40:] + body[:9], body[9:] + second)):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as line:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for piece in pieces:
                line.sendall(piece)
            answer = b"".join(iter(lambda: line.recv(65_536), b""))
        assert answer.count(b"HTTP/1.1 200") == 2, answer
        assert b'"total":' in answer
        assert answer.endswith(b'{"status":"ok"}')


def test_a_request_that_is_no_request_is_refused(world: World, port: int) -> None:
    bodies = (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        b"POST /v1/videos HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + b"X: " + b"a" * 200_000 + b"\r\n\r\n",
        b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
    )
    for body in bodies:
        answer = send(port, body)
        assert not answer.startswith(b"HTTP/1.1 2"), (body[:60], answer[:60])
    healthy = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert send(port, healthy, is_torn=False).startswith(b"HTTP/1.1 200")
