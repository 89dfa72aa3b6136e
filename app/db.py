"""The one door to PostgreSQL: engine, sessions, the declarative base, and ids."""

import asyncio
import logging
import secrets
import select
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from psycopg.pq.abc import PGconn
from sqlalchemy import DDL, CheckConstraint, DateTime, Engine, MetaData, Table, create_engine, event, text
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.pool import ConnectionPoolEntry

from app.settings import get_settings

log = logging.getLogger(__name__)

_ACTS = "cinemeter_after_commit"

# Constraint names are spelled out so that migrations can name what they drop.
NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """The base of every table."""

    metadata = MetaData(naming_convention=NAMING)


# Every moment in the database is an instant; a column without a zone would be a guess.
Moment = DateTime(timezone=True)


def one_of(column: str, words: Iterable[str]) -> CheckConstraint:
    """Return the check that a column holds one of these words: states are enums in the database too."""
    listed = ", ".join(f"'{word}'" for word in words)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def install_trigger(table: Table, *statements: str) -> None:
    """Attach trigger statements to a table's creation. A migration runs its own copy; a test compares the two."""
    for statement in statements:
        # DDL() treats a percent sign as formatting, so these statements have none.
        event.listen(table, "after_create", DDL(statement))  # type: ignore[no-untyped-call]


def append_only(table: Table, why: str) -> None:
    """Have the database refuse every change and removal of a table's rows, with `why` as the words of the refusal."""
    install_trigger(
        table,
        f"""
        CREATE OR REPLACE FUNCTION {table.name}_stay() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION USING ERRCODE = 'integrity_constraint_violation',
                MESSAGE = '{why}';
        END $$
        """,
        f"""
        CREATE OR REPLACE TRIGGER {table.name}_stay BEFORE UPDATE OR DELETE ON {table.name}
        FOR EACH ROW EXECUTE FUNCTION {table.name}_stay()
        """,
    )


# Crockford's alphabet without vowels' look-alikes: ids are read aloud in support calls.
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id(prefix: str) -> str:
    """Return a new unguessable id such as `video_8h2k…`: the noun's prefix and 120 random bits in base 32."""
    number = secrets.randbits(120)
    return f"{prefix}_" + "".join(_ALPHABET[(number >> shift) & 31] for shift in range(115, -5, -5))


_engines: dict[str, Engine] = {}
_engines_lock = Lock()


def get_engine(url: str | None = None) -> Engine:
    """Return the process's engine for `url` (default: the configured database), made once."""
    target = url or get_settings().database_url
    if not target:
        raise RuntimeError("CINEMETER_DATABASE_URL is not set; `cinemeter up` starts an embedded server.")
    target = target.replace("postgres://", "postgresql://", 1)
    if target.startswith("postgresql://"):
        target = target.replace("postgresql://", "postgresql+psycopg://", 1)
    with _engines_lock:
        if target not in _engines:
            _engines[target] = _make_engine(target)
        return _engines[target]


# A connection whose other end has vanished without a word is given up within ten seconds or so. Without these it would
# be waited for a quarter of an hour: a worker would go on rendering long after its lease was another's.
_CONNECT = {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,  # milliseconds that sent data may stay unacknowledged
    "keepalives_idle": 5,  # seconds, as is the next
    "keepalives_interval": 2,
    "keepalives_count": 3,
}

# So long may the server take to say that it is there, when a connection is taken out of the pool.
_ANSWER_SECONDS = 3.0


def _make_engine(target: str) -> Engine:
    engine = create_engine(target, pool_size=20, max_overflow=20, pool_timeout=10, connect_args=_CONNECT)

    @event.listens_for(engine, "checkout")
    def _must_answer(connection: psycopg.Connection[Any], _record: object, _proxy: object) -> None:
        if not _answers(connection.pgconn):
            raise InvalidatePoolError("the other end of this connection does not answer")

    @event.listens_for(engine, "checkin")
    def _close_late_ones(_connection: object, record: ConnectionPoolEntry) -> None:
        # A thread may give its connection back after `forget_engines`; nobody would close that one any more.
        if _engines.get(target) is not engine:
            record.invalidate()

    return engine


def _answers(line: PGconn) -> bool:
    """Return whether the server answers an empty query on an idle connection within some seconds.

    SQLAlchemy's own ping waits as long as the line stands. A proxy that has lost the server keeps it standing for ever,
    and every thread that is given such a connection would wait as long.
    """
    until = time.monotonic() + _ANSWER_SECONDS
    try:
        waiting = select.poll()
        waiting.register(line.socket, select.POLLIN)
        line.send_query(b"")
        line.flush()
        while True:
            while line.is_busy():
                if not waiting.poll(1000 * max(0.0, until - time.monotonic())):
                    return False
                line.consume_input()
            if line.get_result() is None:
                return True
    except psycopg.OperationalError:
        return False


def set_idle_timeout(session: Session) -> None:
    """Have the database roll this transaction back if its process then stands still for a quarter of a minute.

    For transactions that hold a lock which others wait for: the worker in it may be stopped, or cut off, at any moment.
    """
    session.execute(text("SET LOCAL idle_in_transaction_session_timeout = '15s'"))


def forget_engines() -> None:
    """Close the connections of every engine of this process, those in use once they are given back."""
    with _engines_lock:
        for engine in _engines.values():
            engine.dispose()
        _engines.clear()


@contextmanager
def transaction(engine: Engine | None = None) -> Iterator[Session]:
    """Open a session, commit at the end of the block, roll back on any error. The edge of workers and commands."""
    with Session(engine or get_engine(), expire_on_commit=False) as session, session.begin():
        yield session


def after_commit(session: Session, act: Callable[[], object]) -> None:
    """Do `act` once this transaction has committed, and never where it is rolled back.

    What `act` raises is logged and goes no further: the facts are committed by then.
    """
    acts: list[Callable[[], object]] = session.info.setdefault(_ACTS, [])
    acts.append(act)


@event.listens_for(Session, "after_commit")
def _act(session: Session) -> None:
    # after_commit also fires for savepoints; only the real one makes facts.
    if session.in_nested_transaction():
        return
    for act in session.info.pop(_ACTS, []):
        try:
            act()
        except Exception:
            log.exception("What was to follow a commit broke")


@event.listens_for(Session, "after_rollback")
def _forget(session: Session) -> None:
    if not session.in_nested_transaction():
        session.info.pop(_ACTS, None)


# A request's session keeps its connection over several hops to the thread pool. Without a gate as many requests as
# there are connections can each hold one and wait for a thread, while every thread waits for a connection: all stand
# still until the pool gives up. Fewer sessions than connections leave some for streams, probes and the rest.
_REQUESTS_MAX = 32
_gates: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


async def get_session() -> AsyncIterator[Session]:
    """Give a request its session; use it as `Depends(get_session, scope="function")`.

    With that scope the commit happens before the answer leaves, so a commit that fails answers 500 and not 200. Of one
    process's requests 32 have a session at a time; the others wait here and hold nothing.
    """
    gate = _gates.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(_REQUESTS_MAX))
    async with gate:
        block = transaction()
        # Opening asks the database nothing yet; ending it does, so that is done on a thread.
        session = block.__enter__()
        try:
            yield session
        except BaseException as error:
            await asyncio.to_thread(block.__exit__, type(error), error, error.__traceback__)
            raise
        await asyncio.to_thread(block.__exit__, None, None, None)
