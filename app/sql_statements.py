"""Statements in `.sql` files, and the session's objects for the rows that such a statement writes."""

import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, TypeVar, cast

from sqlalchemy import CursorResult, inspect
from sqlalchemy.orm import Session, make_transient_to_detached
from sqlalchemy.orm.attributes import set_committed_value

from app.db import Base


class SqlStatement:
    """A statement as the driver reads it: the mapper's work for it would cost more than the statement itself."""

    def __init__(self, sql: str) -> None:
        """`sql` names its parameters `:name`; a cast is written CAST(…), and it has no colon of another kind."""
        self.sql = re.sub(r":([a-z_][a-z0-9_]*)", r"%(\1)s", sql.replace("%", "%%"))

    def run(self, session: Session, inputs: Mapping[str, Any], *, flush: bool = True) -> CursorResult[Any]:
        """Execute the statement in the session's transaction, after what the session has still to write.

        Without `flush` that stays to be written: for a statement that writes it itself (see `mark_written`).
        """
        if flush:
            session.flush()
        return session.connection().exec_driver_sql(self.sql, dict(inputs))


def sql_file(package: str, name: str) -> SqlStatement:
    """Return the statement of a package's `.sql` file, without the lines of its comments."""
    lines = files(package).joinpath(name).read_text(encoding="utf-8").splitlines()
    return SqlStatement("\n".join(line for line in lines if not line.lstrip().startswith("--")))


Row = TypeVar("Row", bound=Base)


def loaded(session: Session, row_type: type[Row], **columns: Any) -> Row:
    """Return the session's object for a row that a statement has just written; nothing is read or written for it.

    `columns` are the attributes of the row, its primary key among them. Others are read when they are used.
    """
    mapper = inspect(row_type)
    key = tuple(columns[mapper.get_property_by_column(column).key] for column in mapper.primary_key)
    row = session.identity_map.get(mapper.identity_key_from_primary_key(key))
    if row is None:
        row = attach(session, row_type(**columns))
    else:
        for name, value in columns.items():
            set_committed_value(row, name, value)
    return cast(Row, row)


def attach(session: Session, row: Row) -> Row:
    """Make an object whose row a statement has just written the session's own; nothing is read or written for it.

    Attributes that were not set are read from the database when they are used.
    """
    make_transient_to_detached(row)
    session.add(row)
    return row


def mark_written(row: Base, *names: str) -> None:
    """Say that a statement has written these attributes of an object as they are now: a flush leaves them out."""
    for name in names:
        set_committed_value(row, name, getattr(row, name))
