"""DashScope's SDK when a response is lost: what its own retries do, and what makes them safe."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

import dashscope
import httpx
import pytest
from dashscope import VideoSynthesis
from dashscope.v2.errors import APIConnectionError
from dashscope.v2.resources._jobs import Jobs

from tests.live_service import Service

pytestmark = [pytest.mark.xdist_group("service"), pytest.mark.filterwarnings("ignore")]
VIDEOS = "aigc/video-generation/video-synthesis"
# Headers that name this one request, and not the client that sent it.
HOP_BY_HOP = ("host", "connection")


class LossyProxy:
    """A proxy to the service that loses the first response: the request arrives, and the connection is cut."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.seen: list[tuple[dict[str, str], bytes]] = []

    def carry(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["content-length"]))
        headers = {name.lower(): value for name, value in handler.headers.items() if name.lower() not in HOP_BY_HOP}
        self.seen.append((headers, body))
        answer = httpx.post(f"{self.base_url}{handler.path}", content=body, headers=headers, timeout=60)
        handler.close_connection = True
        if len(self.seen) > 1:
            handler.send_response(answer.status_code)
            handler.send_header("content-type", "application/json")
            handler.send_header("content-length", str(len(answer.content)))
            handler.end_headers()
            handler.wfile.write(answer.content)


@contextmanager
def lossy(service: Service) -> Iterator[tuple[LossyProxy, str]]:
    """Run such a proxy, and yield it with the base URL for clients."""
    way = LossyProxy(service.base_url)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            way.carry(self)

        def log_message(self, *_: Any) -> None:
            """Write no log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    before = dashscope.base_http_api_url
    dashscope.base_http_api_url = f"http://127.0.0.1:{server.server_port}/api/v1"
    try:
        yield way, dashscope.base_http_api_url
    finally:
        dashscope.base_http_api_url = before
        server.shutdown()
        thread.join()
        server.server_close()


def made(service: Service, prompt: str) -> list[str]:
    """The ids of the jobs with this prompt."""
    with service.client("pro") as client:
        videos = client.get("/v1/videos", params={"limit": 100}).raise_for_status().json()["data"]
    return [video["id"] for video in videos if video["prompt"] == prompt]


def test_with_a_key_a_repeated_call_is_one_task(service: Service) -> None:
    """Both surfaces retry the call automatically, each time with the caller's Idempotency-Key."""
    for surface in ("first", "second"):
        prompt = f"once {uuid4()}"
        headers = {"Idempotency-Key": str(uuid4())}
        with lossy(service) as (way, base_url), dashscope.Client(api_key=service.keys["pro"], base_url=base_url) as two:
            if surface == "first":
                key = service.keys["pro"]
                answer = VideoSynthesis.async_call(
                    api_key=key, model="synthetic", prompt=prompt, duration=1, resolution="480P", headers=headers
                )
                task = answer.output.task_id
            else:
                parameters = {"duration": 1, "resolution": "480P"}
                body = {"model": "synthetic", "input": {"prompt": prompt}, "parameters": parameters}
                task = Jobs(two, VIDEOS).create(**body, headers=headers).task_id
        assert len(way.seen) == 2, surface
        assert made(service, prompt) == [task], surface


def test_a_client_that_does_not_repeat_makes_one_task(service: Service) -> None:
    prompt = f"never again {uuid4()}"
    with (
        lossy(service) as (way, base_url),
        dashscope.Client(api_key=service.keys["pro"], base_url=base_url, max_retries=0) as client,
        pytest.raises(APIConnectionError),
    ):
        client.videos.jobs.create(model="synthetic", prompt=prompt, duration=1, resolution="480P")
    # The caller can find the task in the list of tasks.
    assert (len(way.seen), len(made(service, prompt))) == (1, 1)


def test_without_a_key_a_repeat_is_the_same_bytes_as_a_second_order(service: Service) -> None:
    """Such a retry cannot be recognised: nothing in it says that it is one. A change here reopens the decision."""
    prompt = f"twice {uuid4()}"
    arguments: dict[str, Any] = {"model": "synthetic", "prompt": prompt, "duration": 1, "resolution": "480P"}
    with lossy(service) as (way, base_url), dashscope.Client(api_key=service.keys["pro"], base_url=base_url) as client:
        client.videos.jobs.create(**arguments)
        client.videos.jobs.create(**arguments)
    first, repeat, wanted = way.seen
    assert first == repeat == wanted
    assert len(made(service, prompt)) == 3
