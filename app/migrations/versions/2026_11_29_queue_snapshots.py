"""a snapshot of what waits, from which forecasts are answered

Revision: 0013, after 0012
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0013"
down_revision: str | Sequence[str] | None = "0012"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Bring the database to this revision."""
    op.create_table(
        "queue_snapshots",
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("class", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("units", sa.Integer(), nullable=False),
        sa.Column("jobs", sa.Integer(), nullable=False),
        sa.Column("p50", sa.Numeric(16, 3), nullable=False),
        sa.Column("p90", sa.Numeric(16, 3), nullable=False),
        sa.Column("oldest", sa.DateTime(timezone=True), nullable=False),
        sa.Column("marks", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("pool", "class", "account_id", name=op.f("pk_queue_snapshots")),
        postgresql_with={"fillfactor": "50"},
    )


def downgrade() -> None:
    """Take this revision back."""
    op.drop_table("queue_snapshots")
