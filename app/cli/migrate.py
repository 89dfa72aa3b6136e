"""Database migrations with Alembic."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError, ProgrammingError

import app
from app.db import TIME_OUTS, get_engine
from app.errors import AppError
from app.migrations.online import is_locked_out
from app.migrations.revisions import lacks_revisions

log = logging.getLogger(__name__)

# The advisory lock of whoever migrates, and the pause in seconds between two tries to get it.
_LOCK = 0x6D69_6772
_POLL_SECONDS = 0.2
# How often a revision is tried whose tables are in use, and the pause in seconds between two tries.
_TRIES = 200
_PAUSE_SECONDS = 1.0
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

    One transaction per revision. A statement waits for its lock for half a second only, because readers queue behind
    it; then the revision is tried again. Raises AppError `unavailable` after some minutes of this. Of several processes
    that migrate one database, one does and the others wait.
    `env.py` runs on the connection given in the attributes, so that URL and driver are chosen in app.db alone.
    """
    config = migrations(database_url)
    engine = get_engine(database_url)
    with engine.connect() as guard, _only_one(guard):
        tries = 1
        while not _upgraded(config, engine, revision):
            if tries == _TRIES:
                raise AppError(
                    "unavailable",
                    f"A table that must change was in use {tries} times in a row. End the transaction that is open for"
                    " so long (pg_stat_activity lists it), and run `cinemeter migrate` again: it goes on from there.",
                )
            tries += 1
            time.sleep(_PAUSE_SECONDS)
        with engine.begin() as connection:
            set_time_outs(connection)


def check_schema(wait: float = 0, database_url: str | None = None) -> None:
    """Return once the database has every revision of this release; it is asked for up to `wait` seconds.

    Raises AppError `unavailable` when it still lacks some then, or does not answer. Pods wait so before they begin,
    while another migrates.
    """
    deadline = time.monotonic() + wait
    while (missing := _missing_schema(database_url)) is not None:
        if time.monotonic() >= deadline:
            raise AppError("unavailable", missing)
        log.info("%s Asking again", missing)
        time.sleep(min(_PAUSE_SECONDS, max(0.0, deadline - time.monotonic())))


def _missing_schema(database_url: str | None) -> str | None:
    """Return what an operator has to do before this release can run on the database, or None."""
    try:
        with get_engine(database_url).connect() as connection:
            lacks = lacks_revisions(connection)
    except ProgrammingError:
        lacks = True
    except OperationalError as error:
        return f"The database does not answer: {str(error.orig).splitlines()[0]}."
    return "The database lacks revisions of this release. Run `cinemeter migrate`." if lacks else None


def _upgraded(config: Config, engine: Engine, revision: str) -> bool:
    """Apply the revisions that are missing. Returns False when a table was in use for longer than others may wait."""
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, revision)
            connection.commit()
        except OperationalError as error:
            if not is_locked_out(error):
                raise
            log.info("A table that must change is in use; trying again")
            return False
        finally:
            # This connection has time-outs of its own; a pool must not hand it to somebody else.
            connection.invalidate()
    return True


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
