"""what checkers of pictures said of each file, and the films that they refused

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


def downgrade() -> None:
    """Take this revision back."""
    op.drop_table("quarantined_films")
    op.drop_table("moderation_checked_files")
