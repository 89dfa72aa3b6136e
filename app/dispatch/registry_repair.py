"""Add films to the registry that have no row there: those that a worker of the version before it has finished.

The statement that ends a job writes the row of its film (`settle_write.sql` of app.jobs). While a release is rolled
out, the database has the registry already and some workers do not write to it yet.
"""

from datetime import datetime, timedelta

from sqlalchemy import text

from app.clock import now
from app.db import transaction

# Films that ended earlier are those that the migration itself has added.
LOOK_BACK = timedelta(days=7)
# By then no transaction that ended a film at that time is still open.
CLOSED_AFTER = timedelta(hours=1)
FILMS_BATCH = 500
BATCHES_MAX = 20

# The end of the next batch of films in the order in which they ended; the index on `finished_at` alone is read.
_BATCH_END = text("""
    SELECT max(finished_at) FROM (
        SELECT finished_at FROM jobs WHERE finished_at > :since AND finished_at <= :until
        ORDER BY finished_at LIMIT :limit
    ) AS batch
""")
_ADD = text("""
    INSERT INTO registry_films (film_id, account_id, test, sha256, mark_id, frame_hashes, hash_parts, model,
                                model_version, reused_films, policy, made_at)
    SELECT id, account_id, test, film ->> 'sha256', mark_id, '', '{}', model, '', '{}', '{}', finished_at
    FROM jobs
    WHERE finished_at > :since AND finished_at <= :until AND film ->> 'sha256' IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM registry_films WHERE film_id = jobs.id)
    ON CONFLICT DO NOTHING
""")


class RegistryRepair:
    """Look at each film that has ended once, and add it to the registry where it is missing.

    How far this has come is kept in memory: a new leader looks at the films of the last LOOK_BACK again.
    """

    def __init__(self) -> None:
        self._since: datetime | None = None

    def run(self) -> int:
        """Look at the next films, in short transactions. Returns how many were added."""
        added = 0
        for _ in range(BATCHES_MAX):
            with transaction() as session:
                moment = now(session)
                since, until = self._since or moment - LOOK_BACK, moment - CLOSED_AFTER
                end = session.scalar(_BATCH_END, {"since": since, "until": until, "limit": FILMS_BATCH})
                if end is None:
                    break
                result = session.execute(_ADD, {"since": since, "until": end})
                added += int(result.rowcount)  # type: ignore[attr-defined]
            self._since = end
        return added
