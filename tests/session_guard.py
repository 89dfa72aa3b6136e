"""Find whatever waits for the store, Redis or another server while it holds a transaction.

The guard watches the sessions that `app.db.transaction` opens, and with them those of requests. It follows them by the
context of the caller, which FastAPI carries from one thread to the next.
"""

import functools
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from weakref import ReferenceType, ref

import aiohttp
import pytest
import redis.connection
from sqlalchemy.orm import Session

import app.db
from app.storage.files import FileStorage
from app.storage.s3 import S3Storage

_sessions: ContextVar[tuple[ReferenceType[Session], ...]] = ContextVar("sessions", default=())

STORAGE_CALLS = ("put_file", "get_file", "stat", "read_range", "delete", "list", "remove_partial")


class WatchedSession(Session):
    """A session that the guard knows."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        _sessions.set((*(each for each in _sessions.get() if each() is not None), ref(self)))


def holds_transaction() -> bool:
    """Return whether the caller has a transaction open."""
    return any(session is not None and session.in_transaction() for session in (each() for each in _sessions.get()))


@contextmanager
def watch() -> Iterator[list[str]]:
    """Watch the block; yield the list of what waited with a transaction open, each with the code that called it."""
    waits: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app.db, "Session", WatchedSession)
        for store in (FileStorage, S3Storage):
            for name in STORAGE_CALLS:
                patch.setattr(store, name, _watched(getattr(store, name), f"the store ({name})", waits))
        connection = redis.connection.AbstractConnection
        patch.setattr(connection, "send_packed_command", _watched(connection.send_packed_command, "Redis", waits))
        request = aiohttp.ClientSession._request
        patch.setattr(aiohttp.ClientSession, "_request", _watched(request, "another server", waits))
        yield waits


def _watched(call: Callable[..., Any], what: str, waits: list[str]) -> Callable[..., Any]:
    @functools.wraps(call)
    def watched(*arguments: Any, **options: Any) -> Any:
        if holds_transaction():
            frames = [frame for frame in traceback.extract_stack(sys._getframe(1)) if _is_ours(frame.filename)]
            if frames:
                lines = " < ".join(f"{frame.filename}:{frame.lineno}" for frame in reversed(frames[-4:]))
                waits.append(f"{what} is waited for with a transaction open: {lines}")
        return call(*arguments, **options)

    return watched


def _is_ours(path: str) -> bool:
    """Return whether a file is code of the service beside the ground floor: a test may do as it likes."""
    ours = ("/app/", "/workers/")
    floor = ("/app/storage/", "/app/db.py", "/app/net/", "/tests/", "site-packages")
    return any(part in path for part in ours) and not any(part in path for part in floor)
