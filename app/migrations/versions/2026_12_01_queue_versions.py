"""which snapshot of a pool's queues this is

Revision: 0060, after 0059
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0060"
down_revision: str | Sequence[str] | None = "0059"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Bring the database to this revision."""
    op.create_table(
        "queue_versions",
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("version", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("pool", name=op.f("pk_queue_versions")),
        if_not_exists=True,
    )


def downgrade() -> None:
    """Take this revision back."""
    op.drop_table("queue_versions")
