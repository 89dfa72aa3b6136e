"""the language in which a member reads pages

Revision: 0050, after 0049
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0050"
down_revision: str | Sequence[str] | None = "0049"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Bring the database to this revision. A column without a default rewrites no row."""
    op.add_column("members", sa.Column("language", sa.Text(), nullable=True), if_not_exists=True)


def downgrade() -> None:
    """Take this revision back."""
    op.drop_column("members", "language")
