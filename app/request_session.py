"""The database session of a request, as the routes of the API and of the pages declare it."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Annotated
from weakref import WeakKeyDictionary

from fastapi import Depends, Request
from sqlalchemy.orm import Session

from app.db import transaction
from app.request_gate import RequestGate

_gates: WeakKeyDictionary[asyncio.AbstractEventLoop, RequestGate] = WeakKeyDictionary()


async def get_session(request: Request) -> AsyncIterator[Session]:
    """Give a request its session; use it as `Depends(get_session, scope="function")`.

    With that scope the commit happens before the response is sent, so a failed commit answers 500 and not 200. A
    request above what the process can answer holds nothing while it waits at the gate. Raises AppError `unavailable`
    and ClientGone as `RequestGate.place` does.
    """
    gate = _gates.setdefault(asyncio.get_running_loop(), RequestGate())
    async with gate.place(_caller(request), getattr(request.state, "is_gone", None)):
        block = transaction()
        # Opening sends nothing to the database; ending it does, so that runs in a thread.
        session = block.__enter__()
        try:
            yield session
        except BaseException as error:
            await asyncio.to_thread(block.__exit__, type(error), error, error.__traceback__)
            raise
        await asyncio.to_thread(block.__exit__, None, None, None)


def _caller(request: Request) -> str:
    """Return whom a request counts for at the gate: its key or cookies, else the address that it comes from."""
    credentials = request.headers.get("authorization") or request.headers.get("cookie")
    if credentials:
        return hashlib.sha256(credentials.encode()).hexdigest()
    return request.client.host if request.client else ""


# Scope "function": the session is committed and closed before the response is sent.
SessionDep = Annotated[Session, Depends(get_session, scope="function")]
