"""Alembic's environment: it migrates over the connection that `cinemeter migrate` opens."""

import importlib
from pathlib import Path

from alembic import context
from sqlalchemy import Connection, text

import app
from app.db import Base, get_engine
from app.db_connections import limit_answers
from app.migrations.online import LOCK_WAIT

# Every noun keeps its rows in a file whose name ends in tables.py; importing them fills the metadata.
for _path in sorted(Path(app.__file__).parent.glob("*/*tables.py")):
    importlib.import_module(f"app.{_path.parent.name}.{_path.stem}")


def run() -> None:
    """Run the migrations, on the given connection or on the configured database."""
    connection = context.config.attributes.get("connection")
    if connection is not None:
        _migrate(connection)
        return
    with get_engine(context.config.attributes.get("database_url")).connect() as opened:
        _migrate(opened)


def _migrate(connection: Connection) -> None:
    # A migration that cannot get its lock gives up quickly and is tried again; a queue of waiting statements behind it
    # would be worse. Its statements may last: an index of a large table is built for minutes, which blocks nobody.
    connection.execute(text(f"SET lock_timeout = '{LOCK_WAIT}'"))
    limit_answers(connection.connection.driver_connection, 0)
    connection.execute(text("SET statement_timeout = 0"))
    connection.execute(text("SET idle_in_transaction_session_timeout = 0"))
    connection.commit()
    # One transaction per revision: the locks of the first are not held until the last has ended, and a revision may
    # leave its transaction to build an index concurrently.
    context.configure(
        connection=connection, target_metadata=Base.metadata, transactional_ddl=True, transaction_per_migration=True
    )
    with context.begin_transaction():
        context.run_migrations()


run()
