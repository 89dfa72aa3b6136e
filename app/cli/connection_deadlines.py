"""Connections that end in time: one that says nothing, sends half a head or a body that nobody reads is closed.

A reverse proxy does the same; without one, each such connection would stay open until its client closes it.
"""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

# From the opening of a connection, or from the end of the last answer, to the end of the next request's head.
HEAD_SECONDS = 10.0


class DeadlineProtocol(H11Protocol):
    """Uvicorn's HTTP protocol with a deadline for what it waits for between two requests.

    Bodies that are read have a deadline of their own (app.api.request_body).
    """

    head_seconds = HEAD_SECONDS

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._clear_deadline()

    def handle_events(self) -> None:
        super().handle_events()
        self._set_deadline()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._set_deadline()

    def _set_deadline(self) -> None:
        """Start the timer while a head is expected, or the rest of a body that was refused; stop it otherwise."""
        is_refused = self.cycle is not None and self.cycle.response_complete and self.conn.their_state is h11.SEND_BODY
        if self.conn.their_state is not h11.IDLE and not is_refused:
            self._clear_deadline()
        elif self._deadline is None and not self.transport.is_closing():
            self._deadline = self.loop.call_later(self.head_seconds, self.transport.close)

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
