"""what the budgets of promotions have left, divided into shards

The row of all accounts together in `promotion_uses` stays for releases that run beside this one during an upgrade, and
is no longer read.

Revision: 0023, after 0022
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0023"
down_revision: str | Sequence[str] | None = "0022"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Bring the database to this revision."""
    op.create_table(
        "promotion_shards",
        sa.Column("promotion", sa.Text(), nullable=False),
        sa.Column("shard", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("budget", sa.BigInteger(), nullable=False),
        sa.Column("room", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("promotion", "shard", name=op.f("pk_promotion_shards")),
        postgresql_with={"fillfactor": "50"},
        if_not_exists=True,
    )


def downgrade() -> None:
    """Take this revision back."""
    op.drop_table("promotion_shards")
