"""dispatch: windows inside an account, caps over all pools, leave of workers, forecasts that are held to what came

Revision: 0006, after 0001
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from app.migrations.online import add_index, drop_index, update_in_batches

revision: str = "0006"
down_revision: str | Sequence[str] | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Bring the database to this revision."""
    op.add_column(
        "shares",
        sa.Column("jumped", sa.Numeric(precision=12, scale=3), server_default="0", nullable=False),
        if_not_exists=True,
    )
    op.add_column("workers", sa.Column("leave_at", sa.DateTime(timezone=True), nullable=True), if_not_exists=True)
    op.add_column("jobs", sa.Column("promote_at", sa.DateTime(timezone=True), nullable=True), if_not_exists=True)
    # Flex jobs that already wait keep the rule that they were accepted under: two hours before their last moment.
    update_in_batches(
        "jobs",
        "promote_at = not_after - interval '2 hours'",
        "state = 'queued' AND not_after IS NOT NULL AND promote_at IS NULL AND spec ->> 'service_tier' = 'flex'",
    )
    add_index("ix_jobs_promotion", "jobs", ["promote_at"], where="promote_at IS NOT NULL")
    add_index("ix_jobs_queued", "jobs", ["created_at", "id"], where="state = 'queued'")
    add_index("ix_jobs_in_progress", "jobs", ["id"], where="state = 'in_progress'")
    add_index("ix_units_running", "units", ["id"], where="state = 'running'")
    add_index(
        "ix_takes_running_segments", "takes", ["account_id", "pool"], where="state = 'running' AND kind = 'segment'"
    )
    drop_index("ix_takes_running_account", "takes")
    op.create_table(
        "forecasts",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("start_p50", sa.Integer(), nullable=False),
        sa.Column("end_p50", sa.Integer(), nullable=False),
        sa.Column("end_p90", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("completed", sa.Boolean(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_forecasts_job_id")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_forecasts")),
    )
    op.create_index(op.f("ix_forecasts_made_at"), "forecasts", ["made_at"])
    op.create_index("ix_forecasts_open", "forecasts", ["job_id"], postgresql_where=sa.text("ended_at IS NULL"))

    op.create_table(
        "lanes",
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("class", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("ready", sa.Integer(), nullable=False),
        sa.CheckConstraint("ready >= 0", name=op.f("ck_lanes_ready_not_negative")),
        sa.PrimaryKeyConstraint("pool", "class", "account_id", "model", name=op.f("pk_lanes")),
        postgresql_with={"fillfactor": 50},
    )
    # Nobody writes units between the count and the triggers. The count reads the index of ready units, not history.
    op.execute("SET LOCAL enable_seqscan = off")
    op.execute("LOCK TABLE units IN SHARE ROW EXCLUSIVE MODE")
    op.execute(
        "INSERT INTO lanes SELECT pool, class, account_id, model, count(*) FROM units WHERE state = 'ready'"
        " GROUP BY pool, class, account_id, model"
    )
    for statement in LANES:
        op.execute(statement)


LANES = (
    """
    CREATE OR REPLACE FUNCTION count_lanes() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP <> 'INSERT' AND OLD.state = 'ready' THEN
            UPDATE lanes SET ready = ready - 1 WHERE pool = OLD.pool AND class = OLD.class
                AND account_id = OLD.account_id AND model = OLD.model;
            DELETE FROM lanes WHERE pool = OLD.pool AND class = OLD.class
                AND account_id = OLD.account_id AND model = OLD.model AND ready = 0;
        END IF;
        IF TG_OP <> 'DELETE' AND NEW.state = 'ready' THEN
            INSERT INTO lanes (pool, class, account_id, model, ready)
            VALUES (NEW.pool, NEW.class, NEW.account_id, NEW.model, 1)
            ON CONFLICT (pool, class, account_id, model) DO UPDATE SET ready = lanes.ready + 1;
        END IF;
        RETURN NULL;
    END $$
    """,
    """
    CREATE OR REPLACE TRIGGER units_count_lanes
    AFTER INSERT OR DELETE OR UPDATE OF state, class, pool, account_id, model ON units
    FOR EACH ROW EXECUTE FUNCTION count_lanes()
    """,
)


def downgrade() -> None:
    """Take this revision back."""
    op.execute("DROP TRIGGER units_count_lanes ON units")
    op.execute("DROP FUNCTION count_lanes()")
    op.drop_table("lanes")
    op.drop_table("forecasts")
    op.create_index(
        "ix_takes_running_account", "takes", ["pool", "account_id"], postgresql_where=sa.text("state = 'running'")
    )
    op.drop_index("ix_takes_running_segments", table_name="takes")
    op.drop_index("ix_units_running", table_name="units")
    op.drop_index("ix_jobs_in_progress", table_name="jobs")
    op.drop_index("ix_jobs_queued", table_name="jobs")
    op.drop_index("ix_jobs_promotion", table_name="jobs")
    op.drop_column("jobs", "promote_at")
    op.drop_column("workers", "leave_at")
    op.drop_column("shares", "jumped")
