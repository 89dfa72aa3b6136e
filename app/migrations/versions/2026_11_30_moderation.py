"""what moderation decided, and by what each job was checked

Revision: 0045, after 0044
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0045"
down_revision: str | Sequence[str] | None = "0044"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_DAY = ["account_id", "day", "checker", "rule", "version", "stage", "outcome", "test", "interface"]


def upgrade() -> None:
    """Bring the database to this revision."""
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "moderation_outcomes",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=True),
        sa.Column("test", sa.Boolean(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("interface", "stage", "outcome", "category")),
        sa.Column("score", sa.Double(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("checker", "rule", "version")),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.Column("first_at", moment, nullable=False),
        sa.Column("last_at", moment, nullable=False),
        sa.CheckConstraint("stage IN ('prompt', 'input', 'output')", name=op.f("ck_moderation_outcomes_stage")),
        sa.CheckConstraint("outcome IN ('allow', 'refuse', 'review')", name=op.f("ck_moderation_outcomes_outcome")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_moderation_outcomes_account_id_accounts")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_moderation_outcomes")),
        if_not_exists=True,
    )
    # The table is new and empty: its indices are made at once.
    op.create_index(
        "uq_moderation_outcomes_day",
        "moderation_outcomes",
        _DAY,
        unique=True,
        postgresql_where=sa.text("job_id IS NULL"),
        if_not_exists=True,
    )
    op.create_index(
        "ix_moderation_outcomes_account", "moderation_outcomes", ["account_id", "last_at"], if_not_exists=True
    )
    op.create_index(
        "ix_moderation_outcomes_job",
        "moderation_outcomes",
        ["job_id"],
        postgresql_where=sa.text("job_id IS NOT NULL"),
        if_not_exists=True,
    )
    # Last, because orders wait while the lock of jobs is held. A column without a default rewrites no row.
    op.add_column("jobs", sa.Column("checked_by", sa.Text(), nullable=True), if_not_exists=True)


def downgrade() -> None:
    """Take this revision back."""
    op.drop_table("moderation_outcomes")
    op.drop_column("jobs", "checked_by")
