"""A receiver of webhooks that does as little as it can, in a process of its own, so that it is not what is measured.

It notes when each webhook-id came (CLOCK_MONOTONIC, which all processes of a machine share). `GET /noted` returns the
notes as JSON and forgets them. Paths under /hang are never answered.
"""

import asyncio
import json
import subprocess
import sys
from time import monotonic
from typing import Self
from urllib.request import urlopen  # noqa: TID251

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Sink:
    """Runs the sink: `with Sink() as sink: ... sink.url, sink.noted()`."""

    def __enter__(self) -> Self:
        program = "from tests.bench.sink import serve; serve()"
        self._process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def noted(self) -> list[tuple[str, str, float]]:
        """Return (path, webhook-id, monotonic seconds) of what came since the last call."""
        with urlopen(f"{self.url}/noted", timeout=60) as answer:
            return [(path, event_id, at) for path, event_id, at in json.load(answer)]


class _Protocol(asyncio.Protocol):
    notes: list[tuple[str, str, float]] = []  # noqa: RUF012

    def __init__(self) -> None:
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower().split(b"\r\n")
            headers = dict(line.split(b": ", 1) for line in head[1:])
            size = end + 4 + int(headers.get(b"content-length", 0))
            if len(self._buffer) < size:
                return
            self._buffer = self._buffer[size:]
            self._answer(head[0].split()[1].decode(), headers.get(b"webhook-id", b"").decode())

    def _answer(self, path: str, event_id: str) -> None:
        if path == "/noted":
            body = json.dumps(self.notes).encode()
            self.notes.clear()
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)  # type: ignore[attr-defined]
            return
        self.notes.append((path, event_id, monotonic()))
        if not path.startswith("/hang"):
            self._transport.write(_ANSWER)  # type: ignore[attr-defined]


def serve() -> None:
    """Serve on a free port, which is printed, until the process is killed."""
    asyncio.run(_serve())


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Protocol, "127.0.0.1", 0, backlog=1_000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
