"""what checkers of pictures said of files, the films that they refused, and who repeats refused orders

Revision: 0052_pictures, after 0051
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0052_pictures"
down_revision: str | Sequence[str] | None = "0051"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Bring the database to this revision."""
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "moderation_checked_files",
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("sha256", "checked_by", "outcome", "category")),
        sa.Column("score", sa.Double(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("rule", "version", "checker")),
        sa.Column("checked_at", moment, nullable=False),
        sa.CheckConstraint(
            "outcome IN ('allow', 'refuse', 'review')", name=op.f("ck_moderation_checked_files_outcome")
        ),
        sa.PrimaryKeyConstraint("sha256", "checked_by", name=op.f("pk_moderation_checked_files")),
        if_not_exists=True,
    )
    # The tables are new and empty: their indices are made at once.
    op.create_index("ix_moderation_checked_files_age", "moderation_checked_files", ["checked_at"], if_not_exists=True)
    op.create_table(
        "quarantined_films",
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("job_id", "account_id", "key")),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("sha256", "category")),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("checker", sa.Text(), nullable=False),
        sa.Column("quarantined_at", moment, nullable=False),
        sa.Column("expires_at", moment, nullable=False),
        sa.Column("removed_at", moment, nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_quarantined_films_job_id_jobs")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_quarantined_films")),
        if_not_exists=True,
    )
    op.create_index(
        "ix_quarantined_films_newest", "quarantined_films", ["quarantined_at", "job_id"], if_not_exists=True
    )
    op.create_index(
        "ix_quarantined_films_due",
        "quarantined_films",
        ["expires_at"],
        postgresql_where=sa.text("removed_at IS NULL"),
        if_not_exists=True,
    )
    op.create_table(
        "refusal_counts",
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("account_id", "scope")),
        sa.Column("test", sa.Boolean(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("refusals", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_refusal_counts_account_id_accounts")),
        sa.PrimaryKeyConstraint("account_id", "scope", "test", "day", name=op.f("pk_refusal_counts")),
        if_not_exists=True,
    )
    op.create_index("ix_refusal_counts_day", "refusal_counts", ["day"], if_not_exists=True)
    op.create_table(
        "order_stops",
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("id", "account_id", "scope")),
        sa.Column("test", sa.Boolean(), nullable=False),
        sa.Column("refusals", sa.Integer(), nullable=False),
        sa.Column("stopped_at", moment, nullable=False),
        sa.Column("allowed_at", moment, nullable=True),
        sa.Column("allowed_by", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_order_stops_account_id_accounts")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_order_stops")),
        if_not_exists=True,
    )
    is_open = sa.text("allowed_at IS NULL")
    op.create_index(
        "uq_order_stops_open",
        "order_stops",
        ["account_id", "scope", "test"],
        unique=True,
        postgresql_where=is_open,
        if_not_exists=True,
    )
    op.create_index(
        "ix_order_stops_newest", "order_stops", ["stopped_at"], postgresql_where=is_open, if_not_exists=True
    )


def downgrade() -> None:
    """Take this revision back."""
    op.drop_table("order_stops")
    op.drop_table("refusal_counts")
    op.drop_table("quarantined_films")
    op.drop_table("moderation_checked_files")
