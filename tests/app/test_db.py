"""Database sessions whose connections break without being closed."""

from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app import db_connections
from app.db import allow_long, forget_engines, get_engine, transaction
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


def test_a_statement_that_nothing_answers_ends(database_url: str, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that lost the server acknowledges what is sent to it: no time-out of the kernel ends that wait."""
    monkeypatch.setattr(db_connections, "ANSWER_SECONDS", 0.2)
    url = make_url(database_url).set(host="127.0.0.1", port=wire.own_port, query={})
    engine = get_engine(url.render_as_string(hide_password=False))
    with Session(engine) as session:
        session.execute(text("SELECT 1"))
        wire.vanish()
        with pytest.raises(OperationalError, match="has not answered") as error:
            session.execute(text("SELECT 2"))
        assert error.value.connection_invalidated
    with transaction(engine) as session:
        assert session.scalar(text("SELECT 3")) == 3


def test_long_work_waits_for_its_answer(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db_connections, "ANSWER_SECONDS", 0.2)
    with transaction(engine) as session:
        allow_long(session)
        session.execute(text("SELECT pg_sleep(0.5)"))
    with pytest.raises(OperationalError, match="has not answered"), transaction(engine) as session:
        session.execute(text("SELECT pg_sleep(10)"))


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
