"""from which lanes, and when, each queue of the snapshot was read

Revision: 0024, after 0023
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0024"
down_revision: str | Sequence[str] | None = "0023"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Bring the database to this revision."""
    op.add_column(
        "queue_snapshots",
        sa.Column("version", sa.BigInteger(), server_default="0", nullable=False),
        if_not_exists=True,
    )
    op.add_column(
        "queue_snapshots",
        sa.Column("refreshed_at", sa.DateTime(timezone=True), server_default=sa.text("'epoch'"), nullable=False),
        if_not_exists=True,
    )


def downgrade() -> None:
    """Take this revision back."""
    op.drop_column("queue_snapshots", "refreshed_at")
    op.drop_column("queue_snapshots", "version")
