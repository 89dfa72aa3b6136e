"""Database migrations with Alembic."""

from pathlib import Path

from alembic import command
from alembic.config import Config

import app
from app.db import get_engine

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

    `env.py` runs on the connection given in the attributes, so that URL and driver are chosen only in app.db.
    """
    config = migrations(database_url)
    with get_engine(database_url).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
