"""Access to PostgreSQL: engine, sessions, the declarative base, and ids."""

import logging
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from threading import Lock
from typing import Any

import psycopg
from sqlalchemy import DDL, CheckConstraint, Connection, DateTime, Engine, MetaData, Table, create_engine, event, text
from sqlalchemy.engine.interfaces import ExceptionContext
from sqlalchemy.exc import InvalidatePoolError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Session, SessionTransaction
from sqlalchemy.pool import ConnectionPoolEntry

from app.db_connections import (
    CONNECT_ARGUMENTS,
    BoundedConnection,
    answers,
    is_fresh,
    limit_answers,
    mark_fresh,
    restore_answers,
    sqlalchemy_url,
)
from app.process_role import application_name, pool_size
from app.settings import get_settings

log = logging.getLogger(__name__)

_AFTER_COMMIT = "cinemeter_after_commit"
_COMMITTED = "cinemeter_committed"

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


# Every time in the database is an instant; a column without a zone would be ambiguous.
Moment = DateTime(timezone=True)


def one_of(column: str, values: Iterable[str]) -> CheckConstraint:
    """Return the constraint that a column has one of these values: states are enums in the database too."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def install_trigger(table: Table, *statements: str) -> None:
    """Attach trigger statements to a table's creation. A migration runs its own copy; a test compares the two."""
    for statement in statements:
        # DDL() treats a percent sign as formatting, so these statements have none.
        event.listen(table, "after_create", DDL(statement))  # type: ignore[no-untyped-call]


# A transaction that sets this to `on` may change the erasable columns of rows that otherwise stay as they are.
ERASING = "cinemeter.erasing"


def append_only(table: Table, message: str, *, erasable: str | None = None) -> None:
    """Have the database refuse every update and delete of a table's rows with the error `message`.

    `erasable` is a column that an erasure may change (see `allow_erasure`), and nothing else.
    """
    exception = f"""
            IF TG_OP = 'UPDATE' AND current_setting('{ERASING}', true) = 'on'
                AND to_jsonb(NEW) - '{erasable}' = to_jsonb(OLD) - '{erasable}' THEN
                RETURN NEW;
            END IF;"""
    install_trigger(
        table,
        f"""
        CREATE OR REPLACE FUNCTION {table.name}_stay() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN{exception if erasable else ""}
            RAISE EXCEPTION USING ERRCODE = 'integrity_constraint_violation',
                MESSAGE = '{message}';
        END $$
        """,
        f"""
        CREATE OR REPLACE TRIGGER {table.name}_stay BEFORE UPDATE OR DELETE ON {table.name}
        FOR EACH ROW EXECUTE FUNCTION {table.name}_stay()
        """,
    )


# Crockford's alphabet without look-alikes: ids are read aloud in support calls.
_ALPHABET = b"0123456789abcdefghjkmnpqrstvwxyz" * 8  # by a random byte, of which five bits count


def new_id(prefix: str) -> str:
    """Return a new unguessable id such as `video_8h2k…`: the noun's prefix and 120 random bits in base 32."""
    return f"{prefix}_{secrets.token_bytes(24).translate(_ALPHABET).decode()}"


_engines: dict[str, Engine] = {}
_engines_lock = Lock()


def get_engine(url: str | None = None) -> Engine:
    """Return the process's engine for `url` (default: the configured database), made once."""
    target = url or get_settings().database_url
    if not target:
        raise RuntimeError("CINEMETER_DATABASE_URL is not set; `cinemeter up` starts an embedded server.")
    target = sqlalchemy_url(target)
    with _engines_lock:
        if target not in _engines:
            _engines[target] = _make_engine(target)
        return _engines[target]


# What the database ends by itself, so that one process that stands still (a paused machine, a lost host, SIGSTOP) holds
# up nobody for longer than 20 seconds. `cinemeter migrate` writes them into the role's settings for this database.
TIME_OUTS = {
    "idle_in_transaction_session_timeout": "15s",
    "lock_timeout": "10s",
    "statement_timeout": "30s",
    # A host without power or network answers no probe: its connection ends after 5 + 3 × 2 seconds.
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    # A statement whose client is gone ends, rather than hold its locks until its answer cannot be delivered.
    "client_connection_check_interval": "5s",
}


# Errors after which a connection is closed, beside those of a broken one. After a failover a connection may lead to the
# former primary, which now only reads. A process that stood still for too long has lost its transaction.
_NO_LONGER_OURS = (psycopg.errors.ReadOnlySqlTransaction, psycopg.errors.IdleInTransactionSessionTimeout)


def _make_engine(target: str) -> Engine:
    settings = get_settings()
    connect: dict[str, Any] = {**CONNECT_ARGUMENTS, "application_name": application_name()}
    if not settings.database_prepare:
        connect["prepare_threshold"] = None
    size, overflow = pool_size()
    engine = create_engine(
        target, pool_size=size, max_overflow=overflow, pool_timeout=10, connect_args=connect, hide_parameters=True
    )

    @event.listens_for(engine, "do_connect")
    def _connect(_dialect: object, _record: object, arguments: list[Any], options: dict[str, Any]) -> BoundedConnection:
        return BoundedConnection.connect(*arguments, **options)

    @event.listens_for(engine, "checkout")
    def _must_answer(connection: psycopg.Connection[Any], record: ConnectionPoolEntry, _proxy: object) -> None:
        if not settings.database_ping_seconds or is_fresh(record, connection.pgconn):
            return
        if not answers(connection.pgconn, settings.database_ping_seconds):
            raise InvalidatePoolError("the other end of this connection does not answer")

    @event.listens_for(engine, "handle_error")
    def _let_go(context: ExceptionContext) -> Exception | None:
        # Whoever handles a database that is away handles these too: they are no fault of the statement.
        if not isinstance(context.original_exception, _NO_LONGER_OURS):
            return None
        context.is_disconnect = True
        return OperationalError(
            context.statement,
            context.parameters,
            context.original_exception,
            hide_parameters=True,
            connection_invalidated=True,
        )

    @event.listens_for(engine, "checkin")
    def _close_late_ones(connection: object, record: ConnectionPoolEntry) -> None:
        restore_answers(connection)
        mark_fresh(record)
        # A thread may return its connection after `forget_engines`; nothing else would close that one.
        if _engines.get(target) is not engine:
            record.invalidate()

    return engine


def allow_long(session: Session, *, statement_seconds: int = 0, idle_seconds: int = 0) -> None:
    """Lift this transaction's time-outs: for audits, exports and other long reads that hold no lock others wait for.

    A limit of 0 seconds is none.
    """
    limit_answers(session.connection().connection.driver_connection, statement_seconds)
    session.execute(text(f"SET LOCAL statement_timeout = '{statement_seconds}s'"))
    session.execute(text(f"SET LOCAL idle_in_transaction_session_timeout = '{idle_seconds}s'"))


def allow_erasure(session: Session) -> None:
    """Let this transaction replace personal values in rows that otherwise never change."""
    session.execute(text(f"SET LOCAL {ERASING} = 'on'"))


@contextmanager
def long_work(session: Session, *, statement_seconds: int = 30, idle_seconds: int) -> Iterator[None]:
    """Extend this transaction's time-outs within the block: while a customer's file is read and re-encoded.

    After the block the role's own hold again, before anything that others wait for is locked.
    """
    allow_long(session, statement_seconds=statement_seconds, idle_seconds=idle_seconds)
    yield
    for name in ("statement_timeout", "idle_in_transaction_session_timeout"):
        session.execute(text(f"SET LOCAL {name} TO DEFAULT"))
    restore_answers(session.connection().connection.driver_connection)


def is_lock_timeout(error: BaseException) -> bool:
    """Return whether a statement ended because another transaction held a lock for longer than `lock_timeout`."""
    return isinstance(error, OperationalError) and isinstance(error.orig, psycopg.errors.LockNotAvailable)


def forget_engines() -> None:
    """Close the connections of every engine of this process, those in use when they are returned."""
    with _engines_lock:
        for engine in _engines.values():
            engine.dispose()
        _engines.clear()
        _autocommit_engine.cache_clear()


@contextmanager
def transaction(engine: Engine | None = None) -> Iterator[Session]:
    """Open a session, commit at the end of the block, roll back on any error. The edge of workers and commands."""
    with Session(engine or get_engine(), expire_on_commit=False) as session:
        try:
            yield session
        except BaseException:
            session.rollback()
            raise
        session.commit()


@contextmanager
def autocommit(engine: Engine | None = None) -> Iterator[Connection]:
    """Open a connection whose statements each commit by themselves, for one or two statements of a frequent request.

    It saves the round trips of BEGIN and COMMIT, and what a session costs. What is written in the block stays, whatever
    happens after it.
    """
    with _autocommit_engine(engine or get_engine()).connect() as connection:
        yield connection


@lru_cache(maxsize=4)
def _autocommit_engine(engine: Engine) -> Engine:
    """Return the view of an engine, with the same pool, whose connections commit each statement."""
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def commit_early(session: Session) -> None:
    """Commit what a block of `transaction` has done; what follows in the block is a transaction of its own.

    For the edge, where an answer takes more reads than the locks of the work before should be held for, and for
    whatever waits for the store, Redis or another server: until its next statement the session holds no connection.
    """
    session.commit()


def after_commit(session: Session, action: Callable[[], object], *, name: str | None = None) -> None:
    """Call `action` after this transaction commits, when its connection is free again; never after a rollback.

    Of several actions of one name only the last is called. An exception of `action` is logged and not raised: the
    transaction is committed by then.
    """
    actions: dict[str, Callable[[], object]] = session.info.setdefault(_AFTER_COMMIT, {})
    actions[name or f"action {len(actions)}"] = action


@event.listens_for(Session, "after_commit")
def _remember_commit(session: Session) -> None:
    # after_commit also fires for savepoints; only the outermost commit counts.
    if not session.in_nested_transaction():
        session.info[_COMMITTED] = True


@event.listens_for(Session, "after_transaction_end")
def _run_after_commit(session: Session, ended: SessionTransaction) -> None:
    # The connection is back in the pool by now: an action may wait for Redis, and nobody else should.
    if ended.parent is not None:
        return
    actions = session.info.pop(_AFTER_COMMIT, {})
    if session.info.pop(_COMMITTED, False):
        for action in actions.values():
            try:
                action()
            except Exception:
                log.exception("An action after a commit failed")
