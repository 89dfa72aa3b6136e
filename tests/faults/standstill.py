"""A transaction that stands still with its locks, as one of a paused machine does."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.db import forget_engines, get_engine, transaction

# The time-out after which the database ends a frozen transaction, in seconds, where a test waits for that; elsewhere
# the one of production holds, which is longer than any of these tests.
IDLE_SECONDS = 2
PATIENCE_SECONDS = 60

Result = TypeVar("Result")


class Frozen:
    """A transaction that stands still with its locks."""

    def __init__(self, act: Callable[[Session], object]) -> None:
        self.session = Session(get_engine(), expire_on_commit=False)
        self.pid = int(self.session.scalar(text("SELECT pg_backend_pid()")) or 0)
        act(self.session)
        self.session.flush()

    def stands(self) -> bool:
        """Return whether the database has not ended it yet."""
        query = text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid AND state = 'idle in transaction'")
        with transaction() as session:
            return bool(session.scalar(query, {"pid": self.pid}))

    def has_ended(self) -> bool:
        """Return whether the database has ended it. Its locks are free a moment before its process is gone."""
        return not self.stands()


@contextmanager
def frozen(act: Callable[[Session], object]) -> Iterator[Frozen]:
    """Stand still after `act`, until the end of the block at most."""
    still = Frozen(act)
    try:
        yield still
    finally:
        still.session.invalidate()


def end_frozen_soon() -> None:
    """Have the database end frozen transactions after IDLE_SECONDS, for connections that are made from now on."""
    with get_engine().begin() as connection:
        connection.execute(
            text(
                f"""
                DO $$ BEGIN EXECUTE format(
                    'ALTER ROLE %I IN DATABASE %I SET idle_in_transaction_session_timeout = %L',
                    current_user, current_database(), '{IDLE_SECONDS}s'
                ); END $$
                """
            )
        )
    forget_engines()


def eventually(act: Callable[[], Result]) -> Result:
    """Return the first result that is not empty. A statement that waited too long for a lock is tried again."""
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        try:
            result = act()
        except OperationalError:
            continue
        if result:
            return result
    raise AssertionError("the others stand still too")
