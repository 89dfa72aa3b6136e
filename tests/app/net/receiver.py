"""A receiver of HTTP requests on loopback that behaves as its paths say: well, or in one of many hostile ways.

It runs a plain asyncio server in a thread of its own, writes raw bytes, and remembers every request that it read.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import parse_qs, urlsplit

GZIP_ZEROS = b"\x1f\x8b\x08\x00" + b"\x00" * 60_000


@dataclass(frozen=True)
class Received:
    """One request as it came over the wire."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """Start it with `with Receiver() as receiver:`; `receiver.url("/status/500")` is an address that answers 500."""

    tls: ssl.SSLContext | None = None
    requests: list[Received] = field(default_factory=list)
    connections: int = 0
    _news: threading.Condition = field(default_factory=threading.Condition)

    def __enter__(self) -> Self:
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="receiver", daemon=True)
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def wait_for(self, condition: Callable[[list[Received]], bool], seconds: float = 30.0) -> bool:
        """Wait until `condition` holds for the requests received so far; return whether it did in time."""
        with self._news:
            return self._news.wait_for(lambda: condition(self.requests), seconds)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}{path}"

    def _run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        self._writers: list[asyncio.StreamWriter] = []
        self._serving: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self.tls)
        self.port: int = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        # All of them, also the loop's own that are in the middle of a handshake.
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        task = asyncio.ensure_future(self._converse(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
            while request := await self._read(reader):
                with self._news:
                    self.requests.append(request)
                    self._news.notify_all()
                if not await self._answer(request, writer):
                    break
        with contextlib.suppress(Exception):
            writer.close()

    @staticmethod
    async def _read(reader: asyncio.StreamReader) -> Received | None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        return Received(method, target, headers, body)

    async def _answer(self, request: Received, writer: asyncio.StreamWriter) -> bool:
        """Answer as the path says; return whether the connection stays open."""
        split = urlsplit(request.target)
        _, kind, *rest = split.path.split("/")
        query = {name: values[0] for name, values in parse_qs(split.query).items()}
        behaviour = getattr(self, f"_do_{kind or 'ok'}")
        await behaviour(writer, rest, query)
        await writer.drain()
        return kind in ("", "ok", "status", "echo")

    async def _do_ok(self, writer: asyncio.StreamWriter, rest: list[str], query: dict[str, str]) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async def _do_status(self, writer: asyncio.StreamWriter, rest: list[str], query: dict[str, str]) -> None:
        retry = f"Retry-After: {query['retry_after']}\r\n" if "retry_after" in query else ""
        body = "" if rest[0] == "204" else "answer"
        writer.write(f"HTTP/1.1 {rest[0]} Word\r\n{retry}Content-Length: {len(body)}\r\n\r\n{body}".encode())

    async def _do_redirect(self, writer: asyncio.StreamWriter, rest: list[str], query: dict[str, str]) -> None:
        writer.write(f"HTTP/1.1 302 AddressList\r\nLocation: {query['to']}\r\nContent-Length: 0\r\n\r\n".encode())

    async def _do_circle(self, writer: asyncio.StreamWriter, rest: list[str], query: dict[str, str]) -> None:
        await self._do_redirect(writer, rest, {"to": "/circle"})

    async def _do_hang(self, writer: asyncio.StreamWriter, rest: list[str], query: dict[str, str]) -> None:
        await self._stop.wait()

    async def _do_drip(self, writer: asyncio.StreamWriter, rest: list[str], query: dict[str, str]) -> None:
        await self._drip(writer, b"HTTP/1.1 200 OK\r\nX-Slow: " + b"z" * 8_000)

    async def _do_dripbody(self, writer: asyncio.StreamWriter, rest: list[str], query: dict[str, str]) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 8000\r\n\r\n")
        await self._drip(writer, b"z" * 8_000)

    async def _drip(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        for byte in data:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.02)

    async def _do_continues(self, writer: asyncio.StreamWriter, rest: list[str], query: dict[str, str]) -> None:
        while True:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            await writer.drain()
            await asyncio.sleep(0.01)

    async def _do_flood(self, writer: asyncio.StreamWriter, rest: list[str], query: dict[str, str]) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        for _ in range(1_000):
            writer.write(b"x" * 1_000_000)
            await writer.drain()

    async def _do_chunks(self, writer: asyncio.StreamWriter, rest: list[str], query: dict[str, str]) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(int(query.get("count", 1_000))):
            writer.write(b"10000\r\n" + b"y" * 65_536 + b"\r\n")
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    async def _do_bomb(self, writer: asyncio.StreamWriter, rest: list[str], query: dict[str, str]) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(GZIP_ZEROS)}\r\n\r\n"
        writer.write(head.encode() + GZIP_ZEROS)

    async def _do_file(self, writer: asyncio.StreamWriter, rest: list[str], query: dict[str, str]) -> None:
        body = b"f" * int(rest[0])
        writer.write(
            f"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        )

    async def _do_reset(self, writer: asyncio.StreamWriter, rest: list[str], query: dict[str, str]) -> None:
        # A linger time of zero makes close() send RST instead of FIN.
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    async def _do_close(self, writer: asyncio.StreamWriter, rest: list[str], query: dict[str, str]) -> None:
        """Close without a response."""

    async def _do_garbage(self, writer: asyncio.StreamWriter, rest: list[str], query: dict[str, str]) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")

    async def _do_hugeheader(self, writer: asyncio.StreamWriter, rest: list[str], query: dict[str, str]) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nX-Huge: " + b"h" * 1_000_000 + b"\r\n\r\n")

    async def _do_onceok(self, writer: asyncio.StreamWriter, rest: list[str], query: dict[str, str]) -> None:
        """Answer as if the connection stayed open, then close it: a kept connection that has gone stale."""
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
