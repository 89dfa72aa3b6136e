"""Connections to PostgreSQL: their URL, and whether the other end still answers."""

import re
import select
import time

import psycopg
from psycopg.pq.abc import PGconn


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
