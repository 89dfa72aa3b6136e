"""Database sessions whose connections break without being closed."""

from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
from psycopg.pq.abc import PGconn
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app import db, db_connections
from app.db import allow_long, forget_engines, get_engine, long_work, transaction
from app.db_connections import ANSWER_SECONDS, BoundedConnection
from app.settings import get_settings
from tests.faults.tcp_proxy import Wire


@pytest.fixture
def wire(database_url: str) -> Iterator[Wire]:
    with closing(Wire(make_url(database_url).port or 5432)) as proxy:
        yield proxy
    forget_engines()


def test_a_silent_database_connection_is_replaced(
    database_url: str, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CINEMETER_DATABASE_PING_SECONDS", "0.1")
    monkeypatch.setattr(db_connections, "FRESH_SECONDS", 0.0)
    get_settings.cache_clear()
    url = make_url(database_url).set(host="127.0.0.1", port=wire.own_port, query={})
    engine = get_engine(url.render_as_string(hide_password=False))
    with transaction(engine) as session:
        session.execute(text("SELECT 1"))
    assert engine.pool.checkedin() == 1  # type: ignore[attr-defined]
    assert wire.vanish() == 1
    with transaction(engine) as session:
        assert session.scalar(text("SELECT 2")) == 2
    monkeypatch.undo()
    get_settings.cache_clear()


def test_a_connection_that_was_in_use_just_now_is_not_asked(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def answers(_connection: PGconn, seconds: float) -> bool:
        asked.append(seconds)
        return True

    monkeypatch.setattr(db, "answers", answers)
    monkeypatch.setattr(db_connections, "FRESH_SECONDS", 1000.0)
    with transaction(engine) as session:
        session.execute(text("SELECT 1"))
    asked.clear()
    with transaction(engine) as session:
        session.execute(text("SELECT 1"))
    assert not asked
    monkeypatch.setattr(db_connections, "FRESH_SECONDS", 0.0)
    with transaction(engine) as session:
        session.execute(text("SELECT 1"))
    assert asked == [get_settings().database_ping_seconds]


def test_a_connection_that_was_closed_just_now_is_replaced(
    database_url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a failover between two requests of one moment."""
    monkeypatch.setattr(db_connections, "FRESH_SECONDS", 1000.0)
    with transaction(engine) as session:
        pid = session.scalar(text("SELECT pg_backend_pid()"))
    with psycopg.connect(database_url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))
    with transaction(engine) as session:
        assert session.scalar(text("SELECT pg_backend_pid()")) != pid


def driver_connection(session: Session) -> BoundedConnection:
    connection = session.connection().connection.driver_connection
    assert isinstance(connection, BoundedConnection)
    return connection


def test_a_statement_that_nothing_answers_ends(database_url: str, wire: Wire) -> None:
    """A proxy that lost the server acknowledges what is sent to it: no time-out of the kernel ends that wait."""
    url = make_url(database_url).set(host="127.0.0.1", port=wire.own_port, query={})
    engine = get_engine(url.render_as_string(hide_password=False))
    with Session(engine) as session:
        session.execute(text("SELECT 1"))
        driver_connection(session).answer_seconds = 0.2
        wire.vanish()
        with pytest.raises(OperationalError, match="has not answered") as error:
            session.execute(text("SELECT 2"))
        assert error.value.connection_invalidated
    with transaction(engine) as session:
        assert session.scalar(text("SELECT 3")) == 3


def test_long_work_may_wait_longer_for_its_answers(engine: Engine) -> None:
    with transaction(engine) as session:
        with long_work(session, statement_seconds=100, idle_seconds=100):
            assert driver_connection(session).answer_seconds == 105
        assert driver_connection(session).answer_seconds == ANSWER_SECONDS
        allow_long(session)
        connection = driver_connection(session)
        assert connection.answer_seconds is None
        session.rollback()
        assert connection.answer_seconds == ANSWER_SECONDS, "what is given up is not waited for"
        allow_long(session)
    with transaction(engine) as session:
        assert driver_connection(session).answer_seconds == ANSWER_SECONDS


def test_a_process_that_stood_still_for_too_long_gets_a_new_connection(database_url: str, engine: Engine) -> None:
    with Session(engine) as session:
        pid = session.scalar(text("SELECT pg_backend_pid()"))
        session.execute(text("SET LOCAL idle_in_transaction_session_timeout = 1"))
        with psycopg.connect(database_url, autocommit=True) as other:
            while other.execute("SELECT FROM pg_stat_activity WHERE pid = %s", (pid,)).fetchone() is not None:
                pass
        with pytest.raises(OperationalError) as error:
            session.execute(text("SELECT 1"))
        assert error.value.connection_invalidated
    with transaction() as session:
        assert session.scalar(text("SELECT pg_backend_pid()")) != pid


def test_a_connection_to_a_server_that_only_reads_is_closed(database_url: str, engine: Engine) -> None:
    """After a failover the former primary refuses writes: the next transaction asks for a new connection."""
    with Session(engine) as session:
        session.execute(text("SET TRANSACTION READ ONLY"))
        pid = session.scalar(text("SELECT pg_backend_pid()"))
        with pytest.raises(OperationalError) as error:
            session.execute(text("CREATE TABLE written ()"))
        assert error.value.connection_invalidated
    with transaction() as session:
        assert session.scalar(text("SELECT pg_backend_pid()")) != pid
