"""Databases for tests that commit: made once, and restored after each test instead of being created anew.

To create a database copies three hundred files, and its first connections read the catalogue anew: together they took
longer than most tests. To restore one deletes the rows of the tables that have some.
"""

import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from app.db import forget_engines

_numbers = itertools.count(1)

# Whatever a test may change of the schema: relations, columns, triggers, constraints, indices, functions, settings.
SCHEMA = """
    SELECT md5(concat_ws('|',
        (SELECT string_agg(concat_ws(' ', oid, relname, relacl, reloptions, reltablespace), ',' ORDER BY oid)
         FROM pg_class WHERE relnamespace = 'public'::regnamespace),
        (SELECT string_agg(concat_ws(' ', attrelid, attnum, pg_attribute.xmin), ',' ORDER BY attrelid, attnum)
         FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid WHERE relnamespace = 'public'::regnamespace),
        (SELECT string_agg(concat_ws(' ', oid, tgenabled), ',' ORDER BY oid) FROM pg_trigger),
        (SELECT string_agg(concat_ws(' ', oid, xmin), ',' ORDER BY oid) FROM pg_constraint),
        (SELECT string_agg(concat_ws(' ', indexrelid, indisvalid), ',' ORDER BY indexrelid) FROM pg_index),
        (SELECT string_agg(concat_ws(' ', oid, xmin), ',' ORDER BY oid)
         FROM pg_proc WHERE pronamespace = 'public'::regnamespace),
        (SELECT string_agg(nspname, ',' ORDER BY nspname) FROM pg_namespace WHERE nspname NOT LIKE 'pg_%'),
        (SELECT string_agg(setrole || array_to_string(setconfig, ' '), ',')
         FROM pg_db_role_setting JOIN pg_database ON pg_database.oid = setdatabase WHERE datname = current_database())))
"""
TABLES = """
    SELECT relname FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND NOT relispartition ORDER BY relname
"""
USED_SEQUENCES = """
    SELECT sequencename, start_value, last_value FROM pg_sequences
    WHERE schemaname = 'public' AND last_value IS NOT NULL
"""
OTHERS = """
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
SIZE = "SELECT pg_database_size(current_database())"
# Beyond this growth in bytes a database is made anew: rows that were deleted still take room in its files.
GROWTH_MAX = 8_000_000


class Database:
    """A database on the server at `url`, dropped at the end of the block."""

    def __init__(self, url: str, template: str = "template0") -> None:
        self.server = url
        self.template = template
        # Parallel runs share an outside server, so a name holds the process and a number.
        self.name = f"cinemeter_test_{os.getpid()}_{next(_numbers)}"
        self.url = url.rsplit("/", 1)[0] + f"/{self.name}"

    def __enter__(self) -> "Database":
        self._run(f"CREATE DATABASE {self.name} TEMPLATE {self.template} STRATEGY FILE_COPY")
        return self

    def __exit__(self, *_: object) -> None:
        self._run(f"DROP DATABASE {self.name} WITH (FORCE)")

    def _run(self, statement: str) -> None:
        with psycopg.connect(self.server, autocommit=True) as connection:
            connection.execute(statement.encode())


@dataclass
class Restorable:
    """A database and what it held at first: its schema, the rows of its tables, and the numbers of its sequences."""

    database: Database
    schema: str
    size: int  # bytes
    rows: dict[str, bytes]  # table → what COPY wrote
    numbers: dict[str, int]  # sequence → its last number

    def restore(self) -> bool:
        """Bring the database back to its first content; return whether that was possible."""
        with psycopg.connect(self.database.url, autocommit=True) as connection:
            connection.execute(OTHERS)
            if _schema(connection) != self.schema or _size(connection) > self.size + GROWTH_MAX:
                return False
            tables = _filled(connection)
            with connection.transaction():
                # Neither the triggers that protect the books nor foreign keys are asked.
                connection.execute("SET LOCAL session_replication_role = replica")
                for table in tables:
                    connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
                for table, content in self.rows.items():
                    copy_in = sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(table))
                    with connection.cursor().copy(copy_in) as copy:
                        copy.write(content)
                for name, start, _ in connection.execute(USED_SEQUENCES).fetchall():
                    # The next number follows those of the rows that were there at first.
                    number = self.numbers.get(name)
                    values = (name, start if number is None else number, number is not None)
                    connection.execute("SELECT setval(%s::regclass, %s, %s)", values)
        return True


@dataclass
class DatabasePool:
    """Restored databases of one content, as `fill` leaves a migrated one.

    Tests that need two at once get two; the databases are dropped with their server, or by `drop`.
    """

    server: str
    template: str
    fill: Callable[[str], None] | None = None
    _free: list[Restorable] = field(default_factory=list)
    _filled_template: Database | None = None

    def get(self) -> Restorable:
        """Return a database with the first content, which nobody else uses until it is put back."""
        return self._free.pop() if self._free else self._make()

    def put(self, restorable: Restorable) -> None:
        """Take a database back; one that cannot be restored is dropped."""
        forget_engines()
        if restorable.restore():
            self._free.append(restorable)
        else:
            restorable.database.__exit__()

    def drop(self) -> None:
        """Drop all databases that nobody uses."""
        while self._free:
            self._free.pop().database.__exit__()
        if self._filled_template is not None:
            self._filled_template.__exit__()
            self._filled_template = None

    def _make(self) -> Restorable:
        database = Database(self.server, self._template()).__enter__()
        with psycopg.connect(database.url, autocommit=True) as connection:
            rows = {table: _content(connection, table) for table in _filled(connection)}
            numbers = {name: last for name, _, last in connection.execute(USED_SEQUENCES).fetchall()}
            return Restorable(database, _schema(connection), _size(connection), rows, numbers)

    def _template(self) -> str:
        if self.fill is None:
            return self.template
        if self._filled_template is None:
            self._filled_template = Database(self.server, self.template).__enter__()
            self.fill(self._filled_template.url)
            forget_engines()
        return self._filled_template.name


def _schema(connection: psycopg.Connection) -> str:
    row = connection.execute(SCHEMA).fetchone()
    assert row is not None
    return str(row[0])


def _size(connection: psycopg.Connection) -> int:
    row = connection.execute(SIZE).fetchone()
    assert row is not None
    return int(row[0])


def _filled(connection: psycopg.Connection) -> list[str]:
    """The tables that have rows."""
    tables = [str(name) for (name,) in connection.execute(TABLES).fetchall()]
    has_row = sql.SQL(", ").join(sql.SQL("EXISTS (SELECT FROM {})").format(sql.Identifier(table)) for table in tables)
    row = connection.execute(sql.SQL("SELECT {}").format(has_row)).fetchone()
    assert row is not None
    return [table for table, filled in zip(tables, row, strict=True) if filled]


def _content(connection: psycopg.Connection, table: str) -> bytes:
    with connection.cursor().copy(sql.SQL("COPY {} TO STDOUT").format(sql.Identifier(table))) as copy:
        return b"".join(bytes(part) for part in copy)
