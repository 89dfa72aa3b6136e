"""Alembic's environment: it migrates over the connection that `cinemeter migrate` opens, in one transaction."""

import importlib
from pathlib import Path

from alembic import context
from sqlalchemy import Connection, text

import app
from app.db import Base, get_engine

# Every noun keeps its rows in a file whose name ends in tables.py; importing them fills the metadata.
for _path in sorted(Path(app.__file__).parent.glob("*/*tables.py")):
    importlib.import_module(f"app.{_path.parent.name}.{_path.stem}")


def run() -> None:
    """Run the migrations, on the given connection or on the configured database."""
    connection = context.config.attributes.get("connection")
    if connection is not None:
        _migrate(connection)
        return
    with get_engine(context.config.attributes.get("database_url")).begin() as opened:
        _migrate(opened)


def _migrate(connection: Connection) -> None:
    # A migration that cannot get its lock gives up quickly; a queue of waiting statements behind it would be worse.
    connection.execute(text("SET LOCAL lock_timeout = '5s'"))
    context.configure(connection=connection, target_metadata=Base.metadata, transactional_ddl=True)
    context.run_migrations()


run()
