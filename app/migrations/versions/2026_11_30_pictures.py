"""what checkers of pictures said of each file

Revision: 0051_pictures, after 0050
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0051_pictures"
down_revision: str | Sequence[str] | None = "0050"
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
    # The table is new and empty: its index is made at once.
    op.create_index("ix_moderation_checked_files_age", "moderation_checked_files", ["checked_at"], if_not_exists=True)


def downgrade() -> None:
    """Take this revision back."""
    op.drop_table("moderation_checked_files")
