"""Database migrations with Alembic."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

import app
from app.db import TIME_OUTS, get_engine

# The advisory lock of whoever migrates, and the pause in seconds between two tries to get it.
_LOCK = 0x6D69_6772
_POLL_SECONDS = 0.2
_SCRIPTS = Path(app.__file__).parent / "migrations"


def migrations(database_url: str | None = None) -> Config:
    """Return Alembic's configuration for `database_url` (default: the configured database)."""
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    # Alembic's ini syntax would interpret a percent sign in a password; attributes are not parsed.
    config.attributes["database_url"] = database_url
    return config


def upgrade(database_url: str | None = None, revision: str = "head") -> None:
    """Apply every migration up to `revision` on `database_url` (default: the configured database).

    One transaction per revision. Of several processes that migrate one database, one does and the others wait.
    `env.py` runs on the connection given in the attributes, so that URL and driver are chosen in app.db alone.
    """
    config = migrations(database_url)
    engine = get_engine(database_url)
    with engine.connect() as guard, _only_one(guard), engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        connection.commit()
        set_time_outs(connection)
        connection.commit()
        # These settings are for this connection alone; a pool must not hand it to somebody else.
        connection.invalidate()


def set_time_outs(connection: Connection) -> None:
    """Have the database end what stands still, for every later connection of this role to this database.

    Settings of the role hold behind a transaction pooler too, which drops those of a connection. `cinemeter doctor`
    checks them; deploy/decisions/0110 gives the reason of each.
    """
    for name, value in TIME_OUTS.items():
        connection.execute(
            text(
                f"""
                DO $$ BEGIN EXECUTE format(
                    'ALTER ROLE %I IN DATABASE %I SET {name} = %L', current_user, current_database(), '{value}'
                ); END $$
                """
            )
        )


@contextmanager
def _only_one(connection: Connection) -> Iterator[None]:
    """Hold the lock of migrations for the block. It is polled: a waiting statement would block concurrent indices."""
    while not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": _LOCK}):
        connection.commit()
        time.sleep(_POLL_SECONDS)
    connection.commit()
    try:
        yield
    finally:
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK})
        connection.commit()
