"""Steps of migrations that keep readers and heartbeats waiting for less than a second, however full the tables are.

A revision runs in one transaction, except for these steps, which leave it: an index is built concurrently, rows are
changed in batches, and a constraint is added without a look at the rows and validated afterwards. A revision that fails
in the middle starts again from its beginning, so each of its steps must do nothing the second time.
"""

from collections.abc import Sequence

import psycopg
from alembic import op
from sqlalchemy import TextClause, text
from sqlalchemy.exc import OperationalError

# How long a statement waits for a lock that stops readers behind it. Then it gives up, and `cinemeter migrate` tries
# the revision again: a transaction that is open for long must not stop everybody.
LOCK_WAIT = "500ms"
BATCH = 500


def is_locked_out(error: OperationalError) -> bool:
    """Return whether a statement gave up because it did not get its lock in time."""
    return isinstance(error.orig, psycopg.errors.LockNotAvailable)


def add_index(
    name: str,
    table: str,
    columns: Sequence[str | TextClause],
    *,
    unique: bool = False,
    where: str | None = None,
    operators: dict[str, str] | None = None,
    include: Sequence[str] = (),
) -> None:
    """Build an index while others read and write the table. One that was left half built is built again.

    `operators` are operator classes by column, such as `text_pattern_ops`. `include` are columns that the index holds
    without ordering by them, so that a query of these alone reads no row of the table.
    """
    with op.get_context().autocommit_block():
        # It waits for older transactions without any lock that stops others, however long they last.
        op.execute("SET lock_timeout = 0")
        if _is_invalid(name):
            op.drop_index(name, table_name=table, postgresql_concurrently=True, if_exists=True)
        op.create_index(
            name,
            table,
            list(columns),
            unique=unique,
            postgresql_where=None if where is None else text(where),
            postgresql_ops=operators or {},
            postgresql_include=list(include),
            postgresql_concurrently=True,
            if_not_exists=True,
        )
        op.execute(f"SET lock_timeout = '{LOCK_WAIT}'")


def drop_index(name: str, table: str) -> None:
    """Drop an index while others read and write the table."""
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = 0")
        op.drop_index(name, table_name=table, postgresql_concurrently=True, if_exists=True)
        op.execute(f"SET lock_timeout = '{LOCK_WAIT}'")


def update_in_batches(table: str, assignments: str, where: str, *, sources: str = "") -> None:
    """Update the rows of `where`, some hundred at a time by their id, each batch in a transaction of its own.

    `sources` are further tables of the update, such as `, transfers`.
    """
    batch = text(
        f"""
        WITH batch AS (SELECT id FROM {table} WHERE id > :last ORDER BY id LIMIT {BATCH}),
        updated AS (
            UPDATE {table} SET {assignments} FROM batch{sources} WHERE {table}.id = batch.id AND {where}
        )
        SELECT max(id) FROM batch
        """
    )
    with op.get_context().autocommit_block():
        run_batches(batch)


def insert_in_batches(target: str, select: str, *, source: str) -> None:
    """Insert rows that follow from those of `source`, some hundred of its rows at a time by their id.

    Each batch is a transaction of its own. `target` is the table with its columns; `select` reads the ids of `batch`.
    Rows that are there already stay as they are: new rows of `source` may have come with theirs meanwhile.
    """
    batch = text(
        f"""
        WITH batch AS (SELECT id FROM {source} WHERE id > :last ORDER BY id LIMIT {BATCH}),
        inserted AS (INSERT INTO {target} {select} ON CONFLICT DO NOTHING)
        SELECT max(id) FROM batch
        """
    )
    with op.get_context().autocommit_block():
        run_batches(batch)


def run_batches(batch: TextClause) -> None:
    """Run a statement for each batch, outside of the revision's transaction.

    Its batch follows the id `:last`, and it returns the last id of its batch. One that is locked out is tried again.
    """
    last: str | None = ""
    while last is not None:
        try:
            last = op.get_bind().scalar(batch, {"last": last})
        except OperationalError as error:
            if not is_locked_out(error):
                raise


def add_constraint(name: str, table: str, definition: str) -> None:
    """Add a check or a foreign key: new rows obey it at once, and the others are read without a lock on them."""
    if not _has_constraint(name, table):
        op.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition} NOT VALID")
    with op.get_context().autocommit_block():
        op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}")


def set_not_null(table: str, column: str) -> None:
    """Forbid NULL in a column. A validated check spares the scan that would stop readers."""
    add_constraint(f"{table}_{column}_filled", table, f"CHECK ({column} IS NOT NULL)")
    op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET NOT NULL")
    op.execute(f"ALTER TABLE {table} DROP CONSTRAINT {table}_{column}_filled")


def replace_unique(old: str, new: str, table: str, columns: list[str]) -> None:
    """Replace a unique constraint by another one, whose index is built while others read and write the table."""
    if _has_constraint(new, table):
        return
    add_index(new, table, columns, unique=True)
    op.execute(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {old}")
    op.execute(f"ALTER TABLE {table} ADD CONSTRAINT {new} UNIQUE USING INDEX {new}")


def _is_invalid(index: str) -> bool:
    query = "SELECT NOT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)"
    return bool(op.get_bind().scalar(text(query), {"name": index}))


def _has_constraint(name: str, table: str) -> bool:
    query = "SELECT true FROM pg_constraint WHERE conname = :name AND conrelid = CAST(:table AS regclass)"
    return bool(op.get_bind().scalar(text(query), {"name": name, "table": table}))
