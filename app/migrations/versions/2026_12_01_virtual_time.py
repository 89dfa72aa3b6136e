"""virtual time of millionths of a second

Revision: 0061, after 0060
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0061"
down_revision: str | Sequence[str] | None = "0060"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

COLUMNS = (("shares", "vtime"), ("pools", "vclock"))


def upgrade() -> None:
    """Bring the database to this revision. Both tables are rewritten: one row for each account and pool at most."""
    for table, column in COLUMNS:
        op.alter_column(table, column, type_=sa.Numeric(20, 6), existing_type=sa.Numeric(16, 3))


def downgrade() -> None:
    """Take this revision back."""
    for table, column in COLUMNS:
        op.alter_column(table, column, type_=sa.Numeric(16, 3), existing_type=sa.Numeric(20, 6))
