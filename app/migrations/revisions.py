"""Which revision of the schema a database has, compared with the one that this release needs."""

from functools import lru_cache
from pathlib import Path

from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text


@lru_cache(maxsize=1)
def known_revisions() -> tuple[str, ...]:
    """Return the ids of this release's revisions, newest first."""
    return tuple(script.revision for script in ScriptDirectory(str(Path(__file__).parent)).walk_revisions())


def lacks_revisions(connection: Connection) -> bool:
    """Return whether the database lacks revisions of this release.

    One that it does not know counts as newer: while a release is rolled out, the database is migrated first. Raises
    SQLAlchemy's ProgrammingError for a database that was never migrated.
    """
    newest, *older = known_revisions()
    current = set(connection.scalars(text("SELECT version_num FROM alembic_version")))
    return not current or (newest not in current and bool(current & set(older)))
