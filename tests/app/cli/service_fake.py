"""A small fake service for the command line's client: it returns prepared answers and records the requests."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class ReceivedRequest:
    """One received request."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class FakeService:
    """Answers per `METHOD path`, returned one after the other; the last one is repeated."""

    answers: dict[str, list[tuple[int, dict[str, str], bytes]]] = field(default_factory=dict)
    received: list[ReceivedRequest] = field(default_factory=list)
    url: str = ""

    def add_answer(self, request: str, body: Any, status: int = 200, **headers: str) -> None:
        """Add an answer to `request`, such as "GET /v1/videos/video_1"."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.answers.setdefault(request, []).append(
            (status, {name.replace("_", "-"): value for name, value in headers.items()}, data)
        )


@contextmanager
def fake_service() -> Iterator[FakeService]:
    """Run a fake service on a free port during the block."""
    service = FakeService()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = json.loads(raw) if raw else None
            service.received.append(ReceivedRequest(self.command, self.path, dict(self.headers), body))
            waiting = service.answers[f"{self.command} {self.path}"]
            status, headers, data = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = answer

        def log_message(self, format: str, *args: Any) -> None:
            """Write no log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
