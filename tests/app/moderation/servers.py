"""A server of OpenAI's `/v1/moderations` shape that behaves as its path says, over real sockets."""

import base64
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

CLEAN: dict[str, Any] = {"flagged": False, "categories": {"violence": False}, "category_scores": {"violence": 0.01}}
FLAGGED: dict[str, Any] = {
    "flagged": True,
    "categories": {"violence": True, "violence/graphic": True, "hate": False},
    "category_scores": {"violence": 0.7, "violence/graphic": 0.9, "hate": 0.1},
}
_BODIES: dict[str, tuple[int, str]] = {
    "/clean": (200, json.dumps({"id": "modr-1", "model": "moderator-1", "results": [CLEAN]})),
    "/flagged": (200, json.dumps({"id": "modr-2", "model": "moderator-1", "results": [FLAGGED]})),
    "/error": (500, "{}"),
    "/text": (200, "<html>"),
    "/empty": (200, '{"results": []}'),
    "/other": (200, '{"results": [{"flagged": "yes", "categories": []}]}'),
    "/list": (200, "[1]"),
    "/deep": (200, "[" * 8000),
    "/overflow": (
        200,
        '{"results": [{"flagged": true, "categories": {"a": true}, "category_scores": {"a": 1%s}}]}' % ("0" * 400),
    ),
    "/nul": (200, '{"results": [{"flagged": true, "categories": {"a\\u0000": true}}]}'),
    "/surrogate": (200, '{"model": "\\ud800", "results": [{"flagged": false, "categories": {}}]}'),
    "/few": (200, '{"results": [{"flagged": false, "categories": {}}]}'),
    "/denied": (401, "{}"),
}


def is_red(url: str) -> bool:
    """Return whether a picture, a data URL, shows hardly anything but red."""
    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as picture:
        red, green, blue = picture.convert("RGB").resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))  # type: ignore[misc]
    return bool(red > 150 and green < 60 and blue < 60)


class ModerationServer:
    """Its requests, and its URLs by what they do. `/eyes` flags red pictures, and no words."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.requests: list[tuple[str | None, Any]] = []
        self.release = threading.Event()
        # At pictures, whatever they show.
        self.fails = self.flags = False
        # At pictures that are not red.
        self.fails_but_at_red = False

    def pictures(self) -> list[Any]:
        """Return the requests that are about pictures."""
        return [content for _, content in self.requests if isinstance(content["input"], list)]

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


@contextmanager
def moderation_server() -> Iterator[ModerationServer]:
    """Run the server during the block. `/hang` answers nothing before the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            server.requests.append((self.headers["authorization"], json.loads(content)))
            if self.path == "/hang":
                server.release.wait(60)
                return
            texts = json.loads(content)["input"]
            if self.path == "/eyes":
                urls = [each["image_url"]["url"] for each in texts] if isinstance(texts, list) else []
                if urls and (server.fails or (server.fails_but_at_red and not any(map(is_red, urls)))):
                    self._answer(*_BODIES["/error"])
                    return
                status, text = _BODIES["/flagged" if any(server.flags or is_red(url) for url in urls) else "/clean"]
                self._answer(status, text)
                return
            status, text = _BODIES["/clean" if self.path == "/last" else self.path]
            if isinstance(texts, list) and self.path in ("/clean", "/last"):
                worst = FLAGGED if self.path == "/last" and texts[-1].endswith("end") else CLEAN
                text = json.dumps({"model": "moderator-1", "results": [*[CLEAN] * (len(texts) - 1), worst]})
            self._answer(status, text)

        def _answer(self, status: int, text: str) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server = ModerationServer(http.server_address[1])
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.release.set()
        http.shutdown()
        http.server_close()
