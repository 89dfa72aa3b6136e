"""a function that says how many workers a pool could use, for autoscalers

Revision: 0048, after 0047
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0048"
down_revision: str | Sequence[str] | None = "0047"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# What runs counts whole, so that the figure never falls below the workers that are busy. What is ready counts as far as
# claim.sql would lease it: up to each account's concurrency, which finishes are free of and test takes have apart; what
# waits before it is tried again counts too, since it will need a worker within minutes. The
# path is set, since whoever calls the function has its owner's rights.
_FUNCTION = """
    CREATE FUNCTION workers_wanted(in_pool text, worst_class integer) RETURNS integer
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
        WITH waiting AS (
            SELECT account_id, sum(ready) AS ready FROM lanes
            WHERE pool = in_pool AND class <= worst_class GROUP BY account_id
        ),
        running AS (
            SELECT account_id,
                   count(*) FILTER (WHERE pool = in_pool) AS here,
                   count(*) FILTER (
                       WHERE kind = 'segment' AND (pool = 'synthetic') = (in_pool = 'synthetic')
                   ) AS counted
            FROM takes WHERE state = 'running' GROUP BY account_id
        )
        SELECT coalesce(sum(
            coalesce(r.here, 0) + CASE
                WHEN in_pool = 'finish' THEN coalesce(w.ready, 0)
                ELSE least(coalesce(w.ready, 0), greatest(0, coalesce(s.concurrency, 1) - coalesce(r.counted, 0)))
            END
        ), 0)::integer
        FROM waiting AS w
        FULL JOIN running AS r ON r.account_id = w.account_id
        LEFT JOIN shares AS s ON s.pool = in_pool AND s.account_id = coalesce(w.account_id, r.account_id)
    $$
"""


def upgrade() -> None:
    """Bring the database to this revision."""
    op.execute(_FUNCTION)
    op.execute("REVOKE ALL ON FUNCTION workers_wanted(text, integer) FROM PUBLIC")


def downgrade() -> None:
    """Take this revision back."""
    op.execute("DROP FUNCTION workers_wanted(text, integer)")
