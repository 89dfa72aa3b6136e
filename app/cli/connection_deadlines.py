"""Connections that end in time: one that says nothing, sends half a head or does not read its answer is closed.

A reverse proxy does the same; without one, each such connection would stay open until its client closes it.
"""

import asyncio
from typing import Any

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# From the opening of a connection, or from the end of the last answer, to the end of the next request's head.
HEAD_SECONDS = 10.0
# Bytes of a head, or of the trailers of a body. The parser itself has no limit.
HEAD_BYTES_MAX = 64 * 1024
# How long a client may leave an answer unread once this process's buffer and the kernel's are full. A player that was
# paused for longer asks for the rest by its range. nginx's `send_timeout` has the same length.
READ_SECONDS = 60.0


class DeadlineProtocol(HttpToolsProtocol):
    """Uvicorn's HTTP protocol with deadlines for the head of a request and for whoever reads the answer.

    Bodies that are read have a deadline of their own (app.api.request_body).
    """

    head_seconds = HEAD_SECONDS
    read_seconds = READ_SECONDS

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._deadline: asyncio.TimerHandle | None = None
        self._read_deadline: asyncio.TimerHandle | None = None
        # Bytes that have arrived since the parser last completed something, and those of this request's headers.
        self._pending_bytes = 0
        self._header_bytes = 0
        # Whether the request asks for another protocol, which the parser believes to begin after the head.
        self._is_upgrade = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._clear_deadline()
        self._clear_read_deadline()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._clear_read_deadline()
        # What the client has not read is of no use to it any more, so it is not sent before the connection is closed.
        self._read_deadline = self.loop.call_later(self.read_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._clear_read_deadline()

    def data_received(self, data: bytes) -> None:
        self._pending_bytes += len(data)
        self._parse(data)
        if self._pending_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
            self.send_400_response("The head of the request is too large.")

    def _parse(self, data: bytes) -> None:
        """Parse what arrived, as uvicorn does; but a request for another protocol is answered like any other.

        The parser would take its body for the beginning of that protocol, and what follows for the next request: a
        client that offers HTTP/2 would order with an empty body, and a stranger could hide a request in another's.
        """
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self._is_upgrade = False
            if self.parser.get_method() == b"CONNECT":
                self.send_400_response("CONNECT is not possible here.")
                return
            head = self._head_without_upgrade()
            self.parser = HttpRequestParser(self)
            self._parse(head + data[upgrade.args[0] :])
        except HttpParserError:
            self.logger.warning("Invalid HTTP request received.")
            self.send_400_response("Invalid HTTP request received.")

    def _head_without_upgrade(self) -> bytes:
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        kept = [line for line in self.headers if line[0] not in (b"connection", b"upgrade", b"http2-settings")]
        if any(b"close" in value.lower() for name, value in self.headers if name == b"connection"):
            kept.append((b"connection", b"close"))
        lines = [method + b" " + self.url + b" HTTP/" + version, *(name + b": " + value for name, value in kept)]
        return b"\r\n".join([*lines, b"", b""])

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._header_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > HEAD_BYTES_MAX:
            raise HttpParserError("The head of the request is too large.")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._pending_bytes = 0
        self._is_upgrade = self.parser.should_upgrade()
        if self._is_upgrade:
            return
        self._clear_deadline()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._pending_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._pending_bytes = 0
        if not self._is_upgrade:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # Where the next request has arrived already, its answer sets the deadline.
        if self.cycle.response_complete:
            self._set_deadline()

    def _set_deadline(self) -> None:
        """Start the timer for the next head, or for the rest of a body that was refused."""
        if self._deadline is None and not self.transport.is_closing():
            self._deadline = self.loop.call_later(self.head_seconds, self.transport.close)

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _clear_read_deadline(self) -> None:
        if self._read_deadline is not None:
            self._read_deadline.cancel()
            self._read_deadline = None
