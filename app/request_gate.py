"""The gate of requests that need a database session: a bounded queue, fair between callers, that nobody waits in long.

Above what a process can answer, a request is refused before it is worked on: an order that begins after its client has
given up would be held and rendered for nobody, and its client's repeat would be one more.
"""

import asyncio
import itertools
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from app.errors import AppError
from app.request_client import RequestClient
from app.request_limits import WorkKind

# A request's session keeps its connection over several hops to the thread pool. Without this limit as many requests as
# there are connections can each hold one and wait for a thread, while every thread waits for a connection: a deadlock
# until the pool times out. Fewer sessions than connections leave some for streams, probes and the rest.
PLACES = 32
# Several API processes on one machine share the places; each has at least so many.
PLACES_MIN = 8
WAITING_MAX = 200
WAIT_SECONDS = 2.0
RETRY_SECONDS = 2


@dataclass(frozen=True)
class WorkLimit:
    """How many requests of one kind of work may have a place: those of one client, and all of them together.

    A kind may have a queue of its own, for `waiting_max` requests that wait for up to `wait_seconds`.
    """

    each: int
    together: int
    waiting_max: int | None = None
    wait_seconds: float | None = None


# All threads of a process share one interpreter lock: each more that computes for one customer lengthens the requests
# of all others. Orders of one account run one after the other in any case (app.jobs.submit).
WORK_LIMITS: dict[WorkKind, WorkLimit] = {
    WorkKind.ORDER: WorkLimit(each=2, together=12),
    # A browser does not try again where a stream is refused, so streams wait for longer.
    WorkKind.STREAM: WorkLimit(each=2, together=8, waiting_max=1_000, wait_seconds=20.0),
    WorkKind.UPLOAD: WorkLimit(each=8, together=20),
}


class ClientGone(Exception):
    """The client has disconnected; there is nobody to answer."""


class GatePlace:
    """A place at the gate: whom it counts for, and for which kind of work."""

    def __init__(self, gate: "RequestGate", client: RequestClient, work: WorkKind) -> None:
        self.client, self.work = client, work
        self._gate, self._loop = gate, asyncio.get_running_loop()

    def count_for(self, client: RequestClient) -> None:
        """Count the place for somebody else from now on: it has been learned who sends the request. From any thread."""
        if client != self.client:
            self._loop.call_soon_threadsafe(self._gate.recount, self, client)


@dataclass(eq=False)
class _Waiter:
    client: Callable[[], RequestClient]
    work: WorkKind
    queue: "list[_Waiter]"
    turn: asyncio.Future[GatePlace] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass
class _Queue:
    """Requests that wait, oldest first: at most `size_max`, each for at most `wait_seconds`."""

    size_max: int
    wait_seconds: float
    waiters: list[_Waiter] = field(default_factory=list)


class RequestGate:
    """Places for requests that have a session, and a queue before them.

    One account gets at most half of each. Strangers, whose key or cookies have not proved valid yet, share a quarter of
    the places, and each of their addresses gets an eighth.
    """

    def __init__(
        self,
        *,
        places: int = PLACES,
        waiting_max: int = WAITING_MAX,
        wait_seconds: float = WAIT_SECONDS,
        work_limits: Mapping[WorkKind, WorkLimit] = WORK_LIMITS,
    ) -> None:
        self._places, self._work_limits = places, work_limits
        self._in_use: set[GatePlace] = set()
        self._patient: list[_Waiter] = []
        self._queue = _Queue(waiting_max, wait_seconds)
        self._queues = {
            work: _Queue(limit.waiting_max, limit.wait_seconds or wait_seconds)
            for work, limit in work_limits.items()
            if limit.waiting_max is not None
        }

    @asynccontextmanager
    async def place(
        self,
        client: Callable[[], RequestClient],
        work: WorkKind = WorkKind.LIGHT,
        *,
        is_gone: Callable[[], Awaitable[bool]] | None = None,
        is_patient: bool = False,
    ) -> AsyncIterator[GatePlace]:
        """Hold a place during the block; arguments and errors are those of `enter`."""
        place = await self.enter(client, work, is_gone=is_gone, is_patient=is_patient)
        try:
            yield place
        finally:
            self.leave(place)

    async def enter(
        self,
        client: Callable[[], RequestClient],
        work: WorkKind = WorkKind.LIGHT,
        *,
        is_gone: Callable[[], Awaitable[bool]] | None = None,
        is_patient: bool = False,
    ) -> GatePlace:
        """Return a place, to be given back by `leave`.

        `client` returns whom it counts for; it is asked again while the request waits. `is_gone` tells whether its
        client has left. `is_patient` waits without a limit and outside of the bounded queue: for work on a request that
        was admitted before.

        Raises AppError `rate_limited` when the client itself has too many requests, `unavailable` when all clients
        together have, each after a bounded wait, and ClientGone.
        """
        place = self._enter_now(client(), work)
        if place is None:
            place = await (self._wait_patiently(client, work) if is_patient else self._wait(client, work))
        try:
            if is_gone is not None and await is_gone():
                raise ClientGone
        except BaseException:
            self.leave(place)
            raise
        return place

    def leave(self, place: GatePlace) -> None:
        """Give a place back. A second time does nothing."""
        if place in self._in_use:
            self._in_use.remove(place)
            self._admit()

    def recount(self, place: GatePlace, client: RequestClient) -> None:
        """Count a place for another client, and admit those who may enter then. In the gate's own event loop."""
        place.client = client
        self._admit()

    def _enter_now(self, client: RequestClient, work: WorkKind) -> GatePlace | None:
        if len(self._in_use) >= self._places or self._is_over_share(client, work) or self._is_kind_full(client, work):
            return None
        place = GatePlace(self, client, work)
        self._in_use.add(place)
        return place

    def _is_over_share(self, client: RequestClient, work: WorkKind) -> bool:
        """Return whether the client has all the places that one client may have, in all or for this kind of work."""
        theirs = [place for place in self._in_use if place.client == client]
        share = max(1, self._places // (2 if client.is_known else 8))
        limit = self._work_limits.get(work)
        return len(theirs) >= share or (limit is not None and sum(place.work == work for place in theirs) >= limit.each)

    def _is_kind_full(self, client: RequestClient, work: WorkKind) -> bool:
        """Return whether all clients together have the places of this kind of work, or all strangers theirs."""
        limit = self._work_limits.get(work)
        if limit is not None and sum(place.work == work for place in self._in_use) >= limit.together:
            return True
        strangers = sum(not place.client.is_known for place in self._in_use)
        return not client.is_known and strangers >= max(1, self._places // 4)

    async def _wait(self, client: Callable[[], RequestClient], work: WorkKind) -> GatePlace:
        """Wait for a place, which whoever leaves passes on. Raises AppError `rate_limited` and `unavailable`."""
        queue = self._queue_of(work)
        theirs = sum(waiter.client() == client() for waiter in queue.waiters)
        if theirs >= max(1, queue.size_max // 2):
            raise _too_many()
        if len(queue.waiters) >= queue.size_max:
            raise _busy()
        place = await self._turn_of(_Waiter(client, work, queue.waiters), queue.wait_seconds)
        if place is None:
            raise _too_many() if self._is_over_share(client(), work) else _busy()
        return place

    def _queue_of(self, work: WorkKind) -> "_Queue":
        """Return the queue of a kind of work: its own where it has one, else the one of all others."""
        return self._queues.get(work, self._queue)

    async def _wait_patiently(self, client: Callable[[], RequestClient], work: WorkKind) -> GatePlace:
        place = await self._turn_of(_Waiter(client, work, self._patient), None)
        assert place is not None, "a wait without a limit ends with a place"
        return place

    async def _turn_of(self, waiter: _Waiter, seconds: float | None) -> GatePlace | None:
        """Queue until the waiter's turn comes; return its place, or None after so many seconds."""
        waiter.queue.append(waiter)
        try:
            await asyncio.wait([waiter.turn], timeout=seconds)
        except asyncio.CancelledError:
            if waiter.turn.done():
                # The place came at the moment at which the wait was given up.
                self.leave(waiter.turn.result())
            raise
        finally:
            if waiter in waiter.queue:
                waiter.queue.remove(waiter)
        return waiter.turn.result() if waiter.turn.done() else None

    def _admit(self) -> None:
        """Give free places away: first to the client with the fewest places, and of its requests to the oldest."""
        queues = (self._queue.waiters, *(queue.waiters for queue in self._queues.values()), self._patient)
        waiters: dict[tuple[RequestClient, WorkKind], list[_Waiter]] = defaultdict(list)
        for waiter in itertools.chain(*queues):
            waiters[waiter.client(), waiter.work].append(waiter)
        while waiters and len(self._in_use) < self._places:
            counts = Counter(place.client for place in self._in_use)
            client, work = min(waiters, key=lambda group: counts[group[0]])
            place = self._enter_now(client, work)
            if place is None:
                del waiters[client, work]
                continue
            waiter = waiters[client, work].pop(0)
            waiter.queue.remove(waiter)
            waiter.turn.set_result(place)
            if not waiters[client, work]:
                del waiters[client, work]


def _too_many() -> AppError:
    message = (
        "Too many requests of this account are being answered at this moment; this one was not begun. "
        "Try again in some seconds, with fewer at once."
    )
    return AppError("rate_limited", message, retry_after=RETRY_SECONDS)


def _busy() -> AppError:
    message = "The service is answering as many requests as it can; nothing was done. Try again in some seconds."
    return AppError("unavailable", message, retry_after=RETRY_SECONDS)
