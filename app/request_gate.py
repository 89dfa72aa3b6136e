"""The gate of requests that need a database session: a bounded queue, fair between callers, that nobody waits in long.

Above what a process can answer, a request is refused before it is worked on: an order that begins after its client has
given up would be held and rendered for nobody, and its client's repeat would be one more.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from app.errors import AppError

# A request's session keeps its connection over several hops to the thread pool. Without this limit as many requests as
# there are connections can each hold one and wait for a thread, while every thread waits for a connection: a deadlock
# until the pool times out. Fewer sessions than connections leave some for streams, probes and the rest.
PLACES = 32
WAITING_MAX = 200
WAIT_SECONDS = 2.0
RETRY_SECONDS = 2


class ClientGone(Exception):
    """The client has disconnected; there is nobody to answer."""


@dataclass(eq=False)
class _Waiter:
    caller: str
    turn: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class RequestGate:
    """Places for requests that have a session, and a queue before them. One caller gets at most half of each."""

    def __init__(
        self, *, places: int = PLACES, waiting_max: int = WAITING_MAX, wait_seconds: float = WAIT_SECONDS
    ) -> None:
        self._places, self._waiting_max, self._wait_seconds = places, waiting_max, wait_seconds
        self._in_use: Counter[str] = Counter()
        self._waiting: list[_Waiter] = []

    @asynccontextmanager
    async def place(self, caller: str, is_gone: Callable[[], Awaitable[bool]] | None = None) -> AsyncIterator[None]:
        """Hold a place during the block. `caller` is whom it counts for; `is_gone` tells whether its client has left.

        Raises AppError `unavailable` when the queue is full or the wait was too long, and ClientGone.
        """
        if self._may_enter(caller):
            self._in_use[caller] += 1
        else:
            await self._wait(caller)
        try:
            if is_gone is not None and await is_gone():
                raise ClientGone
            yield
        finally:
            self._leave(caller)

    def _may_enter(self, caller: str) -> bool:
        return self._in_use.total() < self._places and self._in_use[caller] < max(1, self._places // 2)

    async def _wait(self, caller: str) -> None:
        """Wait for a place, which whoever leaves passes on. Raises AppError `unavailable`."""
        theirs = sum(waiter.caller == caller for waiter in self._waiting)
        if len(self._waiting) >= self._waiting_max or theirs >= max(1, self._waiting_max // 2):
            raise _busy()
        waiter = _Waiter(caller)
        self._waiting.append(waiter)
        try:
            await asyncio.wait([waiter.turn], timeout=self._wait_seconds)
        except asyncio.CancelledError:
            if waiter.turn.done():
                # The place came at the moment at which the wait was given up.
                self._leave(caller)
            raise
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
        if not waiter.turn.done():
            raise _busy()

    def _leave(self, caller: str) -> None:
        self._in_use[caller] -= 1
        if not self._in_use[caller]:
            del self._in_use[caller]
        # The caller with the fewest places goes first, and of its requests the oldest.
        able = [waiter for waiter in self._waiting if self._may_enter(waiter.caller)]
        if able:
            chosen = min(able, key=lambda waiter: self._in_use[waiter.caller])
            self._waiting.remove(chosen)
            self._in_use[chosen.caller] += 1
            chosen.turn.set_result(None)


def _busy() -> AppError:
    message = "The service is answering as many requests as it can; nothing was done. Try again in some seconds."
    return AppError("unavailable", message, retry_after=RETRY_SECONDS)
