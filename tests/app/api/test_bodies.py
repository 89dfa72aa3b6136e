"""Request bodies that are large, slow or cut off: only the client that sends them has to wait."""

import socket
import threading
from collections.abc import Iterator

import httpx
import pytest
import uvicorn

from app.api.application import create_app
from app.assets.limits import EACH_MAX, TOGETHER_MAX, ingest_slot
from app.errors import AppError
from app.settings import get_settings
from tests.api_client import World
from tests.app.net.receiver import Receiver

# More than a process has sessions, connections or threads.
CROWD = 60


@pytest.fixture
def address(world: World) -> Iterator[tuple[str, int]]:
    """The API behind a real socket, in this process."""
    server = uvicorn.Server(uvicorn.Config(create_app(), port=0, log_config=None, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        threading.Event().wait(0.01)
    yield server.servers[0].sockets[0].getsockname()
    server.should_exit = True
    thread.join()


def half(address: tuple[str, int], path: str, key: str, content_type: str) -> socket.socket:
    """Send the head and the first bytes of a request whose body never ends."""
    line = socket.create_connection(address)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Type: {content_type}\r\n"
    line.sendall(f"{head}Content-Length: 1000\r\n\r\n--x\r\n".encode())
    return line


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/v1/videos", "application/json"),
        ("/v1/videos", "multipart/form-data; boundary=x"),
        ("/v1/videos/edits", "multipart/form-data; boundary=x"),
        ("/v1/assets", "multipart/form-data; boundary=x"),
        ("/api/v1/services/aigc/video-generation/video-synthesis", "application/json"),
    ],
)
def test_many_unfinished_bodies_delay_no_other_request(
    world: World, address: tuple[str, int], path: str, content_type: str
) -> None:
    crowd = [half(address, path, world.alice, content_type) for _ in range(CROWD)]
    try:
        with httpx.Client(base_url=f"http://{address[0]}:{address[1]}", timeout=30) as client:
            for _ in range(3):
                answer = client.get("/v1/models", headers={"Authorization": f"Bearer {world.bob}"})
                assert answer.status_code == 200
    finally:
        for line in crowd:
            line.close()


def test_a_body_that_is_cut_off_creates_nothing(world: World, address: tuple[str, int]) -> None:
    begun = world.post("/v1/assets/uploads", {"content_type": "image/png", "bytes": 1000}).json()
    path = begun["upload"]["url"].removeprefix(get_settings().base_url())
    line = socket.create_connection(address)
    line.sendall(f"PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf".encode())
    line.shutdown(socket.SHUT_WR)
    line.settimeout(30)
    assert b"200 OK" not in line.recv(1000)
    line.close()
    confirmed = world.post(f"/v1/assets/{begun['id']}/confirm")
    assert (confirmed.status_code, confirmed.json()["detail"]) == (
        409,
        "The file has not arrived yet; upload it first.",
    )


def test_an_upload_may_be_larger_than_other_bodies(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CINEMETER_BODY_BYTES_MAX", "1024")
    get_settings.cache_clear()
    begun = world.post("/v1/assets/uploads", {"content_type": "video/mp4", "bytes": 3_000_000}).json()
    path = begun["upload"]["url"].removeprefix(get_settings().base_url())
    assert world.app.put(path, content=b"x" * 3_000_000).status_code == 200
    larger = world.app.put(path, content=b"x" * 3_000_001)
    assert (larger.status_code, larger.json()["code"]) == (413, "body_too_large")
    other = world.post("/v1/videos", {"prompt": "x" * 2000})
    assert (other.status_code, other.json()["code"]) == (413, "body_too_large")


def test_a_large_form_without_a_valid_key_is_refused_unread(world: World, address: tuple[str, int]) -> None:
    line = socket.create_connection(address)
    line.settimeout(30)
    head = "POST /v1/assets HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer cm_live_no\r\n"
    line.sendall(f"{head}Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 200000000\r\n\r\n".encode())
    assert line.recv(1000).startswith(b"HTTP/1.1 401")
    line.close()


def test_slow_fetches_of_one_customer_do_not_block_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many slow fetches of one customer use only that customer's slots; the service and other customers go on."""
    monkeypatch.setenv("CINEMETER_WEBHOOK_ALLOW_PRIVATE", "1")
    get_settings.cache_clear()
    with Receiver() as receiver:
        ask = {"url": receiver.url("/hang")}
        slow = [threading.Thread(target=world.post, args=("/v1/assets/from_url", ask)) for _ in range(EACH_MAX)]
        for each in slow:
            each.start()
        assert receiver.wait_for(lambda requests: len(requests) == EACH_MAX)
        more = world.post("/v1/assets/from_url", ask)
        assert (more.status_code, more.json()["code"]) == (429, "rate_limited")
        assert int(more.headers["retry-after"]) > 0
        other = world.post("/v1/assets", key=world.bob, files={"file": ("a.png", b"nothing", "image/png")})
        assert other.json()["code"] == "asset_refused", "another customer's file is read"
        assert world.get("/v1/models").status_code == 200
    for each in slow:
        each.join()


def test_places_are_counted_for_each_and_for_all() -> None:
    def fill(left: int) -> str:
        if left == 0:
            return "all"
        try:
            with ingest_slot(f"account_{left // EACH_MAX}"):
                return fill(left - 1)
        except AppError as error:
            return f"{error.code} with {left} left"

    assert fill(TOGETHER_MAX) == "all"
    assert fill(TOGETHER_MAX + 1) == "unavailable with 1 left"
    assert fill(TOGETHER_MAX) == "all", "every place was given back"
