"""Connections to PostgreSQL: their URL, how long they wait for an answer, and whether the other end still answers."""

import re
import select
import time
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.pq.abc import PGconn
from psycopg.rows import TupleRow, tuple_row
from sqlalchemy.pool import ConnectionPoolEntry

Result = TypeVar("Result")

# The database ends a statement after 30 seconds (`TIME_OUTS` in db.py) and says so. A connection that says nothing for
# longer leads nowhere.
ANSWER_MARGIN_SECONDS = 5.0
ANSWER_SECONDS = 30.0 + ANSWER_MARGIN_SECONDS


# A connection whose peer has vanished silently is closed within about ten seconds. Without these options that takes
# a quarter of an hour: a worker would continue to render long after another worker has its unit.
CONNECT_ARGUMENTS = {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,  # milliseconds that sent data may stay unacknowledged
    "keepalives_idle": 5,  # seconds, as is the next
    "keepalives_interval": 2,
    "keepalives_count": 3,
}

# To ask a connection that was just used costs a busy service a round trip for each transaction. When the database goes
# away, those that are in use at that moment are found only by their statement either way.
FRESH_SECONDS = 0.5
_RETURNED_AT = "cinemeter_returned_at"


class BoundedConnection(psycopg.Connection[TupleRow]):
    """A connection that is closed when a statement is not answered within `answer_seconds`; None waits for ever.

    The kernel notices a peer that acknowledges nothing. A proxy that has lost the server acknowledges everything, and a
    thread that waits for its answer would wait as long as the process lives.
    """

    def __init__(self, pgconn: PGconn, row_factory: Any = tuple_row) -> None:
        super().__init__(pgconn, row_factory)
        self.answer_seconds: float | None = ANSWER_SECONDS

    def wait(self, gen: PQGen[Result], interval: float = 0.1, timeout: float | None = None) -> Result:
        """Wait for an answer. Raises OperationalError, with the connection closed, if there is none in time."""
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, self.answer_seconds)
        except psycopg.errors._WaitTimeout as error:
            self.pgconn.finish()
            raise psycopg.OperationalError(f"the database has not answered for {self.answer_seconds:g} s") from error

    def rollback(self) -> None:
        """Roll back. What is given up is not waited for as long as it was allowed to last."""
        self.answer_seconds = ANSWER_SECONDS
        super().rollback()


def limit_answers(connection: Any, statement_seconds: float) -> None:
    """Have a driver's connection wait as long as its statements may last, and some seconds more; 0 is without limit."""
    if isinstance(connection, BoundedConnection):
        connection.answer_seconds = statement_seconds + ANSWER_MARGIN_SECONDS if statement_seconds else None


def restore_answers(connection: Any) -> None:
    """Have a driver's connection wait for an answer as long as a new one."""
    if isinstance(connection, BoundedConnection):
        connection.answer_seconds = ANSWER_SECONDS


def sqlalchemy_url(url: str) -> str:
    """Return a URL as SQLAlchemy reads it, for psycopg. Several hosts, as libpq knows them, become its `host=` list."""
    url = re.sub("^postgres(ql)?://", "postgresql+psycopg://", url)
    parts = re.fullmatch(
        r"(?P<scheme>[^:]+://)(?P<user>.*@)?(?P<hosts>[^/?@]+)(?P<path>/[^?]*)?(\?(?P<query>.*))?", url
    )
    if parts is None or "," not in parts["hosts"]:
        return url
    hosts = "&".join(f"host={host}" for host in parts["hosts"].split(","))
    query = f"&{parts['query']}" if parts["query"] else ""
    return f"{parts['scheme']}{parts['user'] or ''}{parts['path'] or '/'}?{hosts}{query}"


def mark_fresh(record: ConnectionPoolEntry) -> None:
    """Remember when a connection was returned to its pool."""
    record.info[_RETURNED_AT] = time.monotonic()


def is_fresh(record: ConnectionPoolEntry, connection: PGconn) -> bool:
    """Return whether a connection was in use less than `FRESH_SECONDS` ago: it is not asked whether it answers.

    One from which something may be read has been closed by the other end, as the server says nothing unasked.
    """
    returned_at: float | None = record.info.get(_RETURNED_AT)
    if returned_at is None or time.monotonic() - returned_at >= FRESH_SECONDS:
        return False
    try:
        poll = select.poll()
        poll.register(connection.socket, select.POLLIN)
        return not poll.poll(0)
    except psycopg.OperationalError:
        return False


def answers(connection: PGconn, seconds: float) -> bool:
    """Return whether the server answers an empty query on an idle connection within some seconds.

    SQLAlchemy's own ping waits as long as the connection is open. A proxy that has lost the server keeps it open for
    ever, and every thread with such a connection would wait as long.
    """
    until = time.monotonic() + seconds
    try:
        poll = select.poll()
        poll.register(connection.socket, select.POLLIN)
        connection.send_query(b"")
        connection.flush()
        while True:
            while connection.is_busy():
                if not poll.poll(1000 * max(0.0, until - time.monotonic())):
                    return False
                connection.consume_input()
            if connection.get_result() is None:
                return True
    except psycopg.OperationalError:
        return False
