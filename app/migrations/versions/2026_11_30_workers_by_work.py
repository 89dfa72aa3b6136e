"""workers_wanted counts work in seconds, and by class of GPU

Revision: 0058, after 0057
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0058"
down_revision: str | Sequence[str] | None = "0057"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# What runs counts whole, so that the figure never falls below the workers that are busy. More are wanted where these would
# start what waits later than the pool's horizon: one for priority work, one for all work that counts. So a unit of a
# minute wants no worker of its own; until its length is known, it wants one. Of an account's work counts what claim.sql
# would lease: up to its concurrency, which finishes are free of and test takes have apart.
#
# A unit wants the first class of GPU that it fits; one that fits no class, or where there are none no worker that serves,
# wants none. `in_gpu` NULL asks for all classes. Durations are those of the queue's snapshot and of measured throughput.
# The path is set, since whoever calls the function has its owner's rights.
_BY_WORK = """
    CREATE FUNCTION workers_wanted(in_pool text, worst_class integer, in_gpu text) RETURNS integer
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
        WITH goals (name, worst, horizon) AS MATERIALIZED (
            SELECT 'priority', 0, CAST(coalesce(
                (SELECT priority_start_seconds FROM pool_plans WHERE pool = in_pool), 60) AS float8)
            UNION ALL
            SELECT 'all', worst_class, CAST(coalesce(
                (SELECT start_seconds FROM pool_plans WHERE pool = in_pool), 120) AS float8)
        ),
        classes AS MATERIALIZED (
            SELECT name, place, memory_mb, features FROM gpu_classes WHERE pool = in_pool
        ),
        serving AS MATERIALIZED (
            SELECT memory_mb, features FROM workers WHERE state <> 'gone' AND pools @> to_jsonb(in_pool)
        ),
        queues AS MATERIALIZED (
            SELECT l.class, l.account_id, l.ready, CAST(q.p50 / nullif(q.units, 0) AS float8) AS seconds, (
                SELECT min(c.place) FROM classes AS c WHERE c.memory_mb >= l.memory_mb AND c.features @> l.features
            ) AS place
            FROM lanes AS l
            LEFT JOIN queue_snapshots AS q ON q.pool = l.pool AND q.class = l.class AND q.account_id = l.account_id
            WHERE l.pool = in_pool AND CASE
                WHEN EXISTS (SELECT FROM classes) THEN EXISTS (
                    SELECT FROM classes AS c WHERE c.memory_mb >= l.memory_mb AND c.features @> l.features
                )
                ELSE NOT EXISTS (SELECT FROM serving) OR EXISTS (
                    SELECT FROM serving AS s
                    WHERE coalesce(s.memory_mb >= l.memory_mb, true) AND coalesce(s.features @> l.features, true)
                )
            END
        ),
        running AS MATERIALIZED (
            SELECT t.account_id, t.kind, t.pool, t.pool = in_pool AND (in_gpu IS NULL OR t.gpu = in_gpu) AS is_here,
                   -- Of nothing measured nothing is known; `greatest` would make it 0.
                   CASE WHEN p.p50 IS NOT NULL THEN
                       greatest(CAST(u.frames * p.p50 - extract(epoch FROM now() - t.started_at) AS float8), 0)
                   END AS seconds_left
            FROM takes AS t
            JOIN units AS u ON u.id = t.unit_id
            JOIN jobs AS j ON j.id = t.job_id
            LEFT JOIN paces AS p ON p.model = u.model AND p.kind = u.kind AND p.shape = j.spec ->> 'resolution'
            WHERE t.state = 'running'
        ),
        counted AS (
            SELECT account_id, count(*) AS takes FROM running
            WHERE kind = 'segment' AND (pool = 'synthetic') = (in_pool = 'synthetic') GROUP BY account_id
        ),
        -- In units that each keep a worker for the whole horizon. An account's free places go to the smaller classes first.
        needs AS (
            SELECT g.name, q.account_id,
                   coalesce(sum(q.ready * least(1, coalesce(q.seconds / g.horizon, 1)))
                       FILTER (WHERE in_gpu IS NULL OR q.place = own.place), 0) AS units,
                   coalesce(sum(q.ready * least(1, coalesce(q.seconds / g.horizon, 1)))
                       FILTER (WHERE q.place < own.place), 0) AS units_before
            FROM goals AS g
            CROSS JOIN (SELECT (SELECT place FROM classes WHERE name = in_gpu) AS place) AS own
            JOIN queues AS q ON q.class <= g.worst
            GROUP BY g.name, q.account_id
        ),
        missing AS (
            SELECT coalesce((
                SELECT sum(CASE WHEN in_pool = 'finish' THEN n.units ELSE
                    least(free.places, n.units_before + n.units) - least(free.places, n.units_before) END)
                FROM needs AS n
                LEFT JOIN shares AS s ON s.pool = in_pool AND s.account_id = n.account_id
                LEFT JOIN counted AS c ON c.account_id = n.account_id
                CROSS JOIN LATERAL (
                    SELECT CAST(greatest(0, coalesce(s.concurrency, 1) - coalesce(c.takes, 0)) AS float8) AS places
                ) AS free
                WHERE n.name = g.name
            ), 0) - coalesce((
                SELECT sum(greatest(0, g.horizon - seconds_left) / g.horizon) FROM running
                WHERE is_here AND seconds_left IS NOT NULL
            ), 0) AS workers
            FROM goals AS g
        )
        SELECT CAST((SELECT count(*) FROM running WHERE is_here)
            + (SELECT greatest(0, ceil(max(workers) - 1e-6)) FROM missing) AS integer)
    $$
"""
_OF_ALL_GPUS = """
    CREATE OR REPLACE FUNCTION workers_wanted(in_pool text, worst_class integer) RETURNS integer
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
        SELECT workers_wanted(in_pool, worst_class, NULL)
    $$
"""
# Of revision 0048.
_BY_UNITS = """
    CREATE OR REPLACE FUNCTION workers_wanted(in_pool text, worst_class integer) RETURNS integer
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
    op.create_table(
        "pool_plans",
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("start_seconds", sa.Integer(), nullable=False),
        sa.Column("priority_start_seconds", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("pool", name=op.f("pk_pool_plans")),
    )
    op.create_table(
        "gpu_classes",
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("memory_mb", sa.Integer(), nullable=False),
        sa.Column("features", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("pool", "name", name=op.f("pk_gpu_classes")),
    )
    op.execute(_BY_WORK)
    op.execute(_OF_ALL_GPUS)
    op.execute("REVOKE ALL ON FUNCTION workers_wanted(text, integer, text) FROM PUBLIC")


def downgrade() -> None:
    """Take this revision back."""
    op.execute(_BY_UNITS)
    op.execute("DROP FUNCTION workers_wanted(text, integer, text)")
    op.drop_table("gpu_classes")
    op.drop_table("pool_plans")
