"""A response of server-sent events that counts against how many streams an account may have open at once."""

from collections.abc import AsyncIterator

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from app.concurrency import ConcurrencyLimit

# Of one process. An open stream costs a socket and some memory; opening it and each of its events cost statements.
STREAMS_EACH_MAX = 500
STREAMS_TOGETHER_MAX = 5_000

stream_slot = ConcurrencyLimit("streams", "followed", each=STREAMS_EACH_MAX, together=STREAMS_TOGETHER_MAX).hold


class EventStream(StreamingResponse):
    """A stream of server-sent events to one client of an account.

    Sending it raises AppError `rate_limited` or `unavailable`, before its first byte, when too many are open.
    """

    def __init__(self, account_id: str, events: AsyncIterator[bytes] | AsyncIterator[str]) -> None:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._account_id = account_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with stream_slot(self._account_id):
            await super().__call__(scope, receive, send)
