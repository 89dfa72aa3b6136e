"""whether a client's retry made a job before its first call came in

Revision: 0018, after 0017
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0018"
down_revision: str | Sequence[str] | None = "0017"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Bring the database to this revision. A constant default rewrites no row."""
    op.add_column("submissions", sa.Column("overtook", sa.Boolean(), server_default=sa.false(), nullable=False))


def downgrade() -> None:
    """Take this revision back."""
    op.drop_column("submissions", "overtook")
