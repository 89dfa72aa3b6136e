"""A database of two servers: the roles follow the one that accepts writes."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from app.cli.embedded import RECORD, EmbeddedServers
from app.cli.home import make_private, write_record
from app.cli.ports import free_port
from app.cli.postgres import Postgres
from app.db import forget_engines, get_engine, transaction

PASSWORD = "one-for-both"


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Postgres, Postgres]]:
    """Two servers with one password; the second one only reads."""
    both = []
    for name in ("first", "second"):
        home = tmp_path / name
        make_private(home)
        write_record(home / RECORD, {"postgres_password": PASSWORD})
        both.append(EmbeddedServers(home, throwaway=True))
    try:
        for servers in both:
            servers.postgres.start()
        set_read_only(both[1].postgres, "on")
        yield both[0].postgres, both[1].postgres
    finally:
        forget_engines()
        for servers in both:
            servers.remove()


def set_read_only(server: Postgres, value: str) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
        connection.execute("SELECT pg_reload_conf()")
    # The postmaster tells its processes; a new connection that sees the value comes after that.
    while True:
        with psycopg.connect(server.url, autocommit=True) as connection:
            row = connection.execute("SHOW default_transaction_read_only").fetchone()
            if row == (value,):
                return


def hosts(*ports: int) -> str:
    """The URL of a database on several hosts, as libpq writes it."""
    listed = ",".join(f"127.0.0.1:{port}" for port in ports)
    return f"postgresql://cinemeter:one-for-both@{listed}/cinemeter?target_session_attrs=read-write"


def port_of(url: str) -> int:
    with transaction(get_engine(url)) as session:
        return int(session.scalar(text("SELECT inet_server_port()")) or 0)


def test_a_host_that_is_down_or_only_reads_is_passed_over(pair: tuple[Postgres, Postgres]) -> None:
    first, second = pair
    assert port_of(hosts(free_port(), second.port, first.port)) == first.port


def test_after_a_failover_the_next_transaction_goes_to_the_new_primary(pair: tuple[Postgres, Postgres]) -> None:
    first, second = pair
    url = hosts(first.port, second.port)
    with psycopg.connect(second.url, autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        connection.execute("CREATE TABLE notes (line text)")
    with transaction(get_engine(url)) as session:
        session.execute(text("CREATE TABLE notes (line text)"))

    def write() -> int:
        with transaction(get_engine(url)) as session:
            session.execute(text("INSERT INTO notes VALUES ('a line')"))
            return int(session.scalar(text("SELECT inet_server_port()")) or 0)

    assert write() == first.port
    set_read_only(first, "on")
    set_read_only(second, "off")
    # The pooled connection still leads to the former primary: it is refused once, as an outage, and then closed.
    with pytest.raises(OperationalError, match="read-only transaction"):
        write()
    assert write() == second.port
