"""The database session of a request, as the routes of the API and of the pages declare it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from fastapi import Depends
from sqlalchemy.orm import Session
from starlette.requests import Request

from app.db import transaction
from app.process_role import sharing_processes
from app.request_client import RequestClient, client_of
from app.request_gate import PLACES, PLACES_MIN, GatePlace, RequestGate
from app.request_limits import WorkKind, declared_limits

Params = ParamSpec("Params")
Result = TypeVar("Result")

_gates: WeakKeyDictionary[asyncio.AbstractEventLoop, RequestGate] = WeakKeyDictionary()


async def get_session(request: Request) -> AsyncIterator[Session]:
    """Give a request its session; use it as `Depends(get_session, scope="function")`.

    With that scope the commit happens before the response is sent, so a failed commit answers 500 and not 200. A
    request above what the process can answer holds nothing while it waits at the gate. Raises AppError `rate_limited`
    and `unavailable`, and ClientGone, as `RequestGate.place` does.
    """
    async with gate_place(request, declared_limits(request.scope.get("endpoint")).work):
        block = transaction()
        # Opening sends nothing to the database; ending it does, so that runs in a thread.
        session = block.__enter__()
        try:
            yield session
        except BaseException as error:
            await asyncio.to_thread(block.__exit__, type(error), error, error.__traceback__)
            raise
        await asyncio.to_thread(block.__exit__, None, None, None)


async def admit(request: Request, work: WorkKind) -> None:
    """Wait for a place at the gate before a request is routed: what has to wait costs nothing before its turn.

    The place becomes that of the request's session, and is given back with it, or by `end_admission`. Raises AppError
    `rate_limited` and `unavailable`, and ClientGone, as `RequestGate.enter` does.
    """
    if work != WorkKind.NONE:
        is_gone = getattr(request.state, "is_gone", None)
        request.state.gate_place = await _gate().enter(client_of(request), work, is_gone=is_gone)


def end_admission(request: Request) -> None:
    """Give back the place of a request that has none of a session: its answer begins, or it has ended."""
    place: GatePlace | None = getattr(request.state, "gate_place", None)
    if place is not None:
        _gate().leave(place)
        request.state.gate_place = None


@asynccontextmanager
async def gate_place(request: Request, work: WorkKind = WorkKind.LIGHT) -> AsyncIterator[None]:
    """Hold a place at the gate during the block, for what opens a session: the request's own, else one more.

    Raises AppError `rate_limited` and `unavailable`, and ClientGone, as `RequestGate.enter` does.
    """
    place: GatePlace | None = getattr(request.state, "gate_place", None)
    if place is None or place.work != work:
        end_admission(request)
        await admit(request, work)
    try:
        yield
    finally:
        end_admission(request)


async def read_in_turn(
    account_id: str, read: Callable[Params, Result], *arguments: Params.args, **options: Params.kwargs
) -> Result:
    """Call `read` in a thread, once the account has a place for the work of its streams; return what it returns.

    Many streams read rows after the same event: those of one account wait for each other, and nobody else for them.
    """
    client = RequestClient(account_id, is_known=True)
    async with _gate().place(lambda: client, WorkKind.STREAM, is_patient=True):
        return await asyncio.to_thread(read, *arguments, **options)


def _gate() -> RequestGate:
    loop = asyncio.get_running_loop()
    if loop not in _gates:
        _gates[loop] = RequestGate(places=max(PLACES_MIN, PLACES // sharing_processes()))
    return _gates[loop]


# Scope "function": the session is committed and closed before the response is sent.
SessionDep = Annotated[Session, Depends(get_session, scope="function")]
