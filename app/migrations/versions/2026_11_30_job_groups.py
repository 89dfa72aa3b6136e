"""jobs that are ordered together, and jobs that are found by their metadata

Revision: 0035, after 0034
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from app.migrations.online import add_constraint, add_index, drop_index, insert_in_batches

revision: str = "0035"
down_revision: str | Sequence[str] | None = "0034"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_LIST_METADATA = """
    CREATE OR REPLACE FUNCTION jobs_list_metadata() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO job_metadata (job_id, name, value, account_id, created_at)
        SELECT NEW.id, m.key, m.value, NEW.account_id, NEW.created_at FROM jsonb_each_text(NEW.metadata) AS m
        ON CONFLICT DO NOTHING;
        RETURN NULL;
    END $$
"""
_AT_INSERT = """
    CREATE OR REPLACE TRIGGER jobs_list_metadata AFTER INSERT ON jobs
    FOR EACH ROW WHEN (NEW.metadata <> '{}') EXECUTE FUNCTION jobs_list_metadata()
"""


def upgrade() -> None:
    """Bring the database to this revision."""
    op.create_table(
        "job_groups",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=True),
        sa.Column("test", sa.Boolean(), nullable=False),
        sa.Column("size", sa.SmallInteger(), nullable=False),
        sa.Column("unfinished", sa.SmallInteger(), nullable=False),
        sa.Column("callback_url", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("traceparent", sa.Text(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.CheckConstraint("unfinished BETWEEN 0 AND size", name=op.f("ck_job_groups_unfinished_within_size")),
        sa.CheckConstraint(
            "(unfinished = 0) = (finished_at IS NOT NULL)", name=op.f("ck_job_groups_finished_has_moment")
        ),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_job_groups_account_id_accounts")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_job_groups_project_id_projects")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_groups")),
        if_not_exists=True,
    )
    op.create_index("ix_job_groups_finished", "job_groups", ["finished_at"], if_not_exists=True)
    op.create_table(
        "job_metadata",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_metadata_job_id_jobs")),
        sa.PrimaryKeyConstraint("job_id", "name", name=op.f("pk_job_metadata")),
        if_not_exists=True,
    )
    op.create_index(
        "ix_job_metadata_found",
        "job_metadata",
        ["account_id", "name", "value", "created_at", "job_id"],
        if_not_exists=True,
    )
    op.execute("ALTER TABLE jobs ADD COLUMN IF NOT EXISTS group_id text")
    op.execute("ALTER TABLE jobs ADD COLUMN IF NOT EXISTS group_index smallint")
    op.execute("ALTER TABLE quotes ADD COLUMN IF NOT EXISTS first_id text")
    add_constraint("fk_jobs_group_id_job_groups", "jobs", "FOREIGN KEY (group_id) REFERENCES job_groups (id)")
    add_index("ix_jobs_group", "jobs", ["group_id", "group_index"], where="group_id IS NOT NULL")
    add_index("ix_quotes_first", "quotes", ["first_id"], where="first_id IS NOT NULL")
    # New jobs list their own metadata, also those that a process of the release before writes.
    op.execute(_LIST_METADATA)
    op.execute(_AT_INSERT)
    insert_in_batches(
        "job_metadata (job_id, name, value, account_id, created_at)",
        "SELECT j.id, m.key, m.value, j.account_id, j.created_at FROM batch AS b JOIN jobs AS j ON j.id = b.id,"
        " LATERAL jsonb_each_text(j.metadata) AS m",
        source="jobs",
    )


def downgrade() -> None:
    """Take this revision back."""
    drop_index("ix_quotes_first", "quotes")
    drop_index("ix_jobs_group", "jobs")
    op.execute("ALTER TABLE quotes DROP COLUMN IF EXISTS first_id")
    op.execute("ALTER TABLE jobs DROP COLUMN IF EXISTS group_index")
    op.execute("ALTER TABLE jobs DROP COLUMN IF EXISTS group_id")
    op.execute("DROP TRIGGER IF EXISTS jobs_list_metadata ON jobs")
    op.execute("DROP FUNCTION IF EXISTS jobs_list_metadata")
    op.execute("DROP TABLE IF EXISTS job_metadata")
    op.execute("DROP TABLE IF EXISTS job_groups")
