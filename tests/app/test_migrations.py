"""The migrations make the tables that the code names: neither knows something that the other does not."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine

import app.cli.migrate  # noqa: F401
from app.db import Base


def test_a_migrated_database_is_what_the_tables_say(shared_engine: Engine) -> None:
    with shared_engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
