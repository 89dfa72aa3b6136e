"""Fill a database with history by SQL, and tell which statements of the code would read it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import ClientCursor
from sqlalchemy import Connection, Engine, event, text

from app.db import get_engine
from app.settings import get_settings

# Enough that PostgreSQL prefers an index wherever there is one that fits.
JOBS = 4_000
WORKERS = 20_000
ACCOUNTS = 100
# What grows with every order, and never shrinks or only after weeks. Nothing on the way of an order may read it all.
HISTORY = frozenset(
    {
        *("jobs", "units", "takes", "receipts", "submissions", "quotes", "forecasts", "workers"),
        *("events", "webhook_deliveries", "webhook_attempts"),
        *("holds", "hold_slices", "transfers", "reservations"),
    }
)
# The columns of each table that name a row which is copied too, and so get the number of the copy.
COPIES = {
    "jobs": ("id", "quote_id"),
    "units": ("id", "job_id"),
    "takes": ("id", "unit_id", "job_id"),
    "receipts": ("job_id",),
    "submissions": ("job_id",),
    "events": ("id", "job_id"),
    "webhook_deliveries": ("id", "event_id"),
    "webhook_attempts": ("id", "delivery_id"),
    "holds": ("id", "job_id"),
    "hold_slices": ("hold_id",),
    "transfers": ("id", "job_id", "reference"),
    "quotes": ("id", "job_id"),
}
# Tables whose copies stay with their account: a wallet or an endpoint of it stands in the same row.
OWN = ("webhook_deliveries", "transfers")
# Numbers that no two rows share.
SEQUENCES = {"takes": "fence", "receipts": "number"}
_FROM_JOBS = (
    "INSERT INTO forecasts SELECT id, pool, created_at, 1, 2, 3, started_at, finished_at, true FROM jobs",
    "INSERT INTO reservations SELECT id, account_id, '2026-01', 'settled', 0, 0, '{}', '{}', created_at, finished_at"
    " FROM jobs",
)
STATEMENTS = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")


def add_history(engine: Engine, *, jobs: int = JOBS, workers: int = WORKERS) -> None:
    """Copy every job in the database, with all that belongs to it, `jobs` times; add workers that are long gone.

    The copies are ten minutes apart and go back into the past. Half of them stay with their account, the others are
    spread over accounts of their own.
    """
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(
            text(
                "INSERT INTO accounts SELECT c.* FROM (SELECT * FROM accounts ORDER BY id LIMIT 1) AS a,"
                " generate_series(0, :count - 1) AS n,"
                " jsonb_populate_record(NULL::accounts, to_jsonb(a) || jsonb_build_object('id', 'acct_past' || n)) AS c"
            ),
            {"count": ACCOUNTS},
        )
        for table, names in COPIES.items():
            _copy(connection, table, names, jobs)
        for statement in _FROM_JOBS:
            connection.execute(text(statement))
        connection.execute(
            text(
                "INSERT INTO workers (id, pools, host, pid, device, state, drain_requested, started_at, seen_at, facts)"
                """ SELECT 'gone' || n, '["synthetic", "finish"]', 'host', n, 'cpu', 'gone', false,"""
                " now() - n * interval '1 minute', now() - n * interval '1 minute', '{}'"
                " FROM generate_series(1, :count) AS n"
            ),
            {"count": workers},
        )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))


def _copy(connection: Connection, table: str, names: tuple[str, ...], count: int) -> None:
    columns = connection.execute(
        text(
            "SELECT column_name, data_type FROM information_schema.columns"
            " WHERE table_schema = 'public' AND table_name = :table"
        ),
        {"table": table},
    ).all()
    # Ids of one kind share no long beginning, so that a search for one is planned as it is among real ones.
    changes = [
        f"'{name}', regexp_replace(r.{name}, '_', '_' || substr(md5(CAST(n AS text)), 1, 6)) || 'p' || n"
        for name in names
    ]
    for name, kind in columns:
        if kind == "timestamp with time zone":
            changes.append(f"'{name}', r.{name} - n * interval '10 minutes'")
        if name == "account_id" and table not in OWN:
            changes.append(f"'{name}', CASE WHEN n % 2 = 0 THEN r.{name} ELSE 'acct_past' || n % {ACCOUNTS} END")
    if table in SEQUENCES:
        column = SEQUENCES[table]
        changes.append(f"'{column}', nextval(pg_get_serial_sequence('{table}', '{column}'))")
    if table == "jobs":
        changes.append("'mark_id', nextval('mark_ids')")
    if table == "events":
        changes.append("'position', 1000000000 + n * 100 + r.sequence")
    connection.execute(
        text(
            f"INSERT INTO {table} SELECT c.* FROM {table} AS r, generate_series(1, :count) AS n,"
            f" jsonb_populate_record(NULL::{table}, to_jsonb(r) || jsonb_build_object({', '.join(changes)})) AS c"
        ),
        {"count": count},
    )


@dataclass
class Recording:
    """The statements that code sent, each once by its text, with the parameters of its first call."""

    sent: dict[str, Any] = field(default_factory=dict)

    def reads_of_history(self) -> list[str]:
        """Return `table: statement` for every statement whose plan scans a table of history from end to end."""
        with psycopg.connect(get_settings().database_url) as connection:
            cursor = ClientCursor(connection)
            reads = []
            for statement, parameters in self.sent.items():
                explained = cursor.mogrify(f"EXPLAIN (FORMAT JSON) {statement}", parameters)
                row = cursor.execute(explained).fetchone()
                assert row is not None
                plan = json.loads(row[0]) if isinstance(row[0], str) else row[0]
                tables = sorted(set(_scanned(plan[0]["Plan"])) & HISTORY)
                reads += [f"{table}: {' '.join(statement.split())}" for table in tables]
            return reads


@contextmanager
def recording() -> Iterator[Recording]:
    """Record every statement that any engine of this process sends during the block."""
    record = Recording()

    def see(_connection: Connection, _cursor: object, statement: str, parameters: Any, _context: object, many: bool):
        if statement.lstrip(" (\n-").upper().startswith(STATEMENTS) or "\nWITH " in statement:
            record.sent.setdefault(statement, parameters[0] if many else parameters)

    event.listen(Engine, "before_cursor_execute", see)
    try:
        yield record
    finally:
        event.remove(Engine, "before_cursor_execute", see)


def _scanned(plan: dict[str, Any]) -> Iterator[str]:
    """Yield the tables that a plan reads from end to end."""
    if plan["Node Type"] == "Seq Scan":
        yield str(plan["Relation Name"])
    for child in plan.get("Plans", ()):
        yield from _scanned(child)


def scans(engine: Engine) -> dict[str, int]:
    """Return how often each table of history was read from end to end, by statements, triggers and foreign keys."""
    # What a connection counted is seen once it has ended.
    get_engine().dispose()
    rows = "SELECT relname, seq_scan FROM pg_stat_user_tables"
    with engine.connect() as connection:
        return {name: count for name, count in connection.execute(text(rows)) if name in HISTORY}
