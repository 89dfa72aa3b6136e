"""The migrations create exactly the tables that the code defines."""

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Engine, text

from app.cli import migrate
from app.db import Base, get_engine
from app.errors import AppError


def test_a_migrated_database_is_what_the_tables_say(shared_engine: Engine) -> None:
    with shared_engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def triggers(connection: Connection, schema: str) -> set[tuple[str, str]]:
    """Every trigger of a schema, and the text of its function, spaced alike."""
    rows = connection.execute(
        text(
            """
            SELECT replace(pg_get_triggerdef(t.oid), :schema || '.', ''), p.prosrc
            FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid
            WHERE c.relnamespace = CAST(:schema AS regnamespace) AND NOT t.tgisinternal
            """
        ),
        {"schema": schema},
    )
    return {(" ".join(definition.split()), " ".join(source.split())) for definition, source in rows}


def test_a_migrated_database_has_the_triggers_that_stand_beside_the_tables(shared_engine: Engine) -> None:
    with shared_engine.connect() as connection, connection.begin() as begun:
        connection.execute(text("CREATE SCHEMA beside"))
        connection.execute(text("SET LOCAL search_path = beside"))
        Base.metadata.create_all(connection)
        stand = triggers(connection, "beside")
        begun.rollback()
    with shared_engine.connect() as connection:
        assert triggers(connection, "public") == stand != set()


@pytest.mark.new_database
def test_a_revision_that_waits_for_one_table_holds_no_other(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 0052, which changes the tables of claims and that of receipts: each column is there as soon as it is added."""
    monkeypatch.setattr(migrate, "_TRIES", 1)
    command.downgrade(migrate.migrations(database_url), "0051")
    columns = text("SELECT table_name FROM information_schema.columns WHERE column_name IN ('memory_mb', 'gpu_cost')")
    with get_engine(database_url).connect() as other, other.begin():
        other.execute(text("LOCK TABLE receipts IN ACCESS SHARE MODE"))
        with pytest.raises(AppError, match="was in use"):
            migrate.upgrade(database_url, "0052")
        assert set(other.scalars(columns)) == {"units", "lanes", "workers", "takes"}
    migrate.upgrade(database_url)
