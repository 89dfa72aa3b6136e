"""The guard of every test finds code that waits for another system with a transaction open, across threads too."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from pathlib import Path

import aiohttp
import pytest
from redis.exceptions import RedisError
from sqlalchemy import Engine, text

from app.db import after_commit, commit_early, transaction
from app.redis_client import get_redis
from app.storage.files import FileStorage

# The guard blames code of the service alone, and this is where it would be.
SERVICE_FILE = "/anywhere/app/service.py"


def as_service(call: Callable[[], object]) -> None:
    """Call from a frame that looks like one of the service."""
    exec(compile("call()", SERVICE_FILE, "exec"), {"call": call})


def ask_store(folder: Path) -> None:
    FileStorage(folder).stat("a/b")


def ask_redis() -> None:
    with suppress(RedisError):
        get_redis().ping()


def ask_server() -> None:
    async def get() -> None:
        async with aiohttp.ClientSession() as http:
            with suppress(aiohttp.ClientError):
                await http.get("http://127.0.0.1:1")

    asyncio.run(get())


@pytest.mark.parametrize("what", ["the store", "Redis", "another server"])
def test_a_wait_with_a_transaction_open_is_found(
    engine: Engine, redis_url: str, tmp_path: Path, what: str, waits: list[str]
) -> None:
    calls: dict[str, Callable[[], None]] = {
        "the store": lambda: ask_store(tmp_path),
        "Redis": ask_redis,
        "another server": ask_server,
    }
    call = calls[what]

    def in_a_thread() -> None:
        asyncio.run(asyncio.to_thread(as_service, call))

    def work() -> None:
        with transaction() as session:
            as_service(call)
            session.execute(text("SELECT 1"))
            assert waits == [], "it has no connection before its first statement"
            in_a_thread()
            first = list(waits)
            assert first
            assert all(line.startswith(what) and SERVICE_FILE in line for line in first)
            call()
            assert waits == first, "a test may do as it likes"
            commit_early(session)
            as_service(call)
            session.execute(text("SELECT 1"))
            after_commit(session, lambda: as_service(call))
        as_service(call)
        assert waits == first

    Context().run(work)
    waits.clear()
