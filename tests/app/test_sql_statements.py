"""Statements that a cursor of the driver runs behave as SQLAlchemy's own do."""

import pytest
from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import IntegrityError, NoResultFound, OperationalError
from sqlalchemy.orm import Session

from app.accounts.accounts import create_account
from app.accounts.tables import Account
from app.db import autocommit, transaction
from app.sql_statements import SqlStatement, attach, mark_written, new_row, row_columns, row_of
from tests.statement_count import recorded_statements


def test_parameters_are_numbered_once_each(session: Session) -> None:
    statement = SqlStatement(
        "-- :ignored\nSELECT CAST(:a AS int) AS x, CAST(:b AS text) || '%' AS y, CAST(:a AS int) + 1 AS z"
    )
    row = statement.run(session, {"a": 5, "b": "b", "more": 1}).one()
    assert (row.x, row.y, row.z) == (5, "b%", 6)


def test_one_needs_a_row_and_a_statement_may_have_none(session: Session) -> None:
    nothing = SqlStatement("SELECT 1 AS one WHERE :a").run(session, {"a": False})
    assert nothing.one_or_none() is None
    with pytest.raises(NoResultFound):
        nothing.one()
    assert SqlStatement("UPDATE accounts SET name = :name WHERE id = ''").run(session, {"name": "x"}) == []


def test_what_the_session_has_still_to_write_comes_first(session: Session) -> None:
    account = create_account(session, "Before")
    account.name = "After"
    names = SqlStatement("SELECT name FROM accounts WHERE id = :id").run(session, {"id": account.id})
    assert names.one().name == "After"


def test_errors_are_those_of_sqlalchemy_and_roll_back(engine: Engine) -> None:
    statement = SqlStatement("INSERT INTO accounts (id) VALUES (:id)")
    with pytest.raises(IntegrityError), transaction(engine) as session:
        statement.run(session, {"id": "acct_x"})
    with transaction(engine) as session:
        assert session.get(Account, "acct_x") is None


def test_a_broken_connection_leaves_the_pool(engine: Engine) -> None:
    read = SqlStatement("SELECT pg_backend_pid() AS pid")
    end = SqlStatement("SELECT pg_terminate_backend(:pid)")
    with Session(engine) as session:
        pid = read.run(session, {}).one().pid
        with transaction(engine) as other:
            end.run(other, {"pid": pid})
        with pytest.raises(OperationalError) as caught:
            read.run(session, {})
    assert caught.value.connection_invalidated
    with transaction(engine) as session:
        assert read.run(session, {}).one().pid != pid


def test_listeners_of_the_engine_see_the_statement(engine: Engine) -> None:
    with recorded_statements(engine) as statements, transaction(engine) as session:
        SqlStatement("SELECT CAST(:a AS int)").run(session, {"a": 1})
    assert statements == ["SELECT CAST(%(a)s AS int)"]


def test_statements_of_a_frequent_read_commit_each(engine: Engine, session: Session) -> None:
    account = create_account(session, "Before")
    session.commit()
    with autocommit() as connection:
        SqlStatement("UPDATE accounts SET name = 'After' WHERE id = :id").run_on(connection, {"id": account.id})
        session.refresh(account)
        assert account.name == "After"


def test_rows_of_a_statement_are_the_objects_of_the_session(session: Session) -> None:
    account = create_account(session, "Before")
    session.flush()
    read = SqlStatement(f"SELECT {row_columns(Account, 'a')} FROM accounts AS a WHERE a.id = :id")
    session.execute(text("UPDATE accounts SET name = 'After' WHERE id = :id"), {"id": account.id})
    assert row_of(session, Account, "a", read.run(session, {"id": account.id}).one()) is account
    assert account.name == "After", "it is as the statement has read it"
    session.expunge(account)
    other = row_of(session, Account, "a", read.run(session, {"id": account.id}).one())
    names = inspect(Account).column_attrs.keys()
    assert [getattr(other, name) for name in names] == [getattr(account, name) for name in names]


def test_what_a_statement_has_written_is_not_written_again(engine: Engine, session: Session) -> None:
    account = create_account(session, "Before")
    session.flush()
    account.name, account.suspended_reason = "After", "later"
    mark_written(account, "name")
    with recorded_statements(engine) as statements:
        session.flush()
    assert len(statements) == 1
    assert "suspended_reason" in statements[0]
    assert "name=" not in statements[0]
    account.name = "Again"
    mark_written(account, "name")
    assert not session.dirty, "a flush does not look at it"


def test_an_attached_row_counts_as_unchanged(session: Session) -> None:
    account = create_account(session, "Read")
    columns = session.execute(text("SELECT * FROM accounts WHERE id = :id"), {"id": account.id}).mappings().one()
    session.expunge(account)
    row = attach(session, new_row(Account, dict(columns)))
    assert not session.is_modified(row)
    row.name = "Written"
    session.flush()
    assert session.scalar(text("SELECT name FROM accounts WHERE id = :id"), {"id": account.id}) == "Written"
