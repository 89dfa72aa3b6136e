"""Statements in `.sql` files, and the session's objects for the rows that such a statement writes."""

import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, TypeVar, cast
from weakref import ref

import psycopg
from psycopg import RawCursor
from psycopg.rows import namedtuple_row
from sqlalchemy import Connection, inspect
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import MultipleResultsFound, NoResultFound
from sqlalchemy.orm import Session, make_transient_to_detached
from sqlalchemy.orm.attributes import set_committed_value

from app.db import Base

_CONNECTION = "cinemeter_connection"
_PARAMETER = re.compile(r":([a-z_][a-z0-9_]*)")


class Rows(list[Any]):
    """The rows of a statement as named tuples, with the reads of a SQLAlchemy result that callers use."""

    def one(self) -> Any:
        """Return the only row. Raises sqlalchemy.exc.NoResultFound and MultipleResultsFound."""
        row = self.one_or_none()
        if row is None:
            raise NoResultFound("No row was found when one was required")
        return row

    def one_or_none(self) -> Any:
        """Return the only row, or None. Raises sqlalchemy.exc.MultipleResultsFound."""
        if len(self) > 1:
            raise MultipleResultsFound("Multiple rows were found when one or none was required")
        return self[0] if self else None


class SqlStatement:
    """A statement as the database reads it, run by a cursor of the driver.

    SQLAlchemy describes the columns of every result of a textual statement anew, and psycopg parses a text of more than
    4,096 characters again at every use; for a long statement both together cost more than the statement itself.
    """

    def __init__(self, sql: str) -> None:
        """`sql` names its parameters `:name`; a cast is written CAST(…), and it has no colon of another kind."""
        lines = (line.strip() for line in sql.splitlines())
        sql = "\n".join(line for line in lines if line and not line.startswith("--"))
        # As listeners of the engine see it, with the parameters by name.
        self.sql = _PARAMETER.sub(r"%(\1)s", sql.replace("%", "%%"))
        self._names = list(dict.fromkeys(_PARAMETER.findall(sql)))
        self._numbered = _PARAMETER.sub(lambda name: f"${self._names.index(name[1]) + 1}", sql).encode()

    def run(self, session: Session, inputs: Mapping[str, Any], *, flush: bool = True) -> Rows:
        """Execute the statement in the session's transaction, after what the session has still to write.

        Without `flush` that stays to be written: for a statement that writes it itself (see `mark_written`).
        Raises as `Session.execute` does.
        """
        if flush:
            session.flush()
        return self.run_on(_connection(session), inputs)

    def run_on(self, connection: Connection, inputs: Mapping[str, Any]) -> Rows:
        """Execute the statement over a connection. Raises as `Connection.execute` does."""
        driver_connection = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
        cursor = RawCursor(driver_connection, row_factory=namedtuple_row)
        for listener in connection.dispatch.before_cursor_execute:
            listener(connection, cursor, self.sql, inputs, None, False)
        try:
            cursor.execute(self._numbered, [inputs[name] for name in self._names])
            for listener in connection.dispatch.after_cursor_execute:
                listener(connection, cursor, self.sql, inputs, None, False)
            result = cursor.pgresult
            return Rows(cursor.fetchall() if result is not None and result.nfields else ())
        except (psycopg.Error, KeyboardInterrupt, SystemExit) as error:
            # This has no public name: it makes SQLAlchemy's error of the driver's, tells the listeners of errors, and
            # drops a connection that is broken, or was interrupted, from the pool.
            connection._handle_dbapi_exception(error, self.sql, None, cast(DBAPICursor, cursor), None)


def _connection(session: Session) -> Connection:
    """Return the connection of a session's transaction.

    The session finds it anew each time, which costs about as much as the driver does to send a statement. Within a
    savepoint it has to, because it opens the savepoint by it.
    """
    transaction = session.get_transaction()
    if transaction is None or session.in_nested_transaction():
        return session.connection()
    remembered = session.info.get(_CONNECTION)
    if remembered is not None and remembered[0]() is transaction and transaction.is_active:
        return cast(Connection, remembered[1])
    connection = session.connection()
    session.info[_CONNECTION] = (ref(transaction), connection)
    return connection


def sql_file(package: str, name: str) -> SqlStatement:
    """Return the statement of a package's `.sql` file."""
    return SqlStatement(files(package).joinpath(name).read_text(encoding="utf-8"))


Row = TypeVar("Row", bound=Base)


def loaded(session: Session, row_type: type[Row], **columns: Any) -> Row:
    """Return the session's object for a row that a statement has just written or read; nothing more is sent for it.

    `columns` are the attributes of the row, its primary key among them. Others are read when they are used.
    """
    mapper = inspect(row_type)
    key = tuple(columns[mapper.get_property_by_column(column).key] for column in mapper.primary_key)
    row = session.identity_map.get(mapper.identity_key_from_primary_key(key))
    if row is None:
        return attach(session, new_row(row_type, columns))
    for name, value in columns.items():
        set_committed_value(row, name, value)
    return cast(Row, row)


def row_columns(row_type: type[Base], alias: str) -> str:
    """Return the columns of a row for the SELECT of a statement, as `row_of` reads them."""
    return ", ".join(f"{alias}.{each.columns[0].name} AS {alias}_{each.key}" for each in inspect(row_type).column_attrs)


def row_of(session: Session, row_type: type[Row], alias: str, row: Any) -> Row:
    """Return the session's object for a row that a statement has read by `row_columns`, as it is now."""
    keys = inspect(row_type).column_attrs.keys()
    return loaded(session, row_type, **{key: getattr(row, f"{alias}_{key}") for key in keys})


def new_row(row_type: type[Row], columns: Mapping[str, Any]) -> Row:
    """Return an object of no session for a row that a statement writes or has read, see `attach`.

    Its attributes are set as the mapper sets those that it has read: none counts as changed.
    """
    row = row_type()
    vars(row).update(columns)
    return row


def attach(session: Session, row: Row) -> Row:
    """Make an object whose row a statement has just written or read the session's own; nothing is sent for it.

    Attributes that were not set are read from the database when they are used.
    """
    make_transient_to_detached(row)
    session.add(row)
    return row


def mark_written(row: Base, *names: str) -> None:
    """Say that a statement has written these attributes of an object as they are now: a flush leaves them out."""
    for name in names:
        set_committed_value(row, name, getattr(row, name))
    state = inspect(row)
    if state.session is not None and not state.committed_state:
        # This has no public name: nothing is left to write, so the next flush does not look at the object.
        state._commit_all(state.dict, state.session.identity_map)
