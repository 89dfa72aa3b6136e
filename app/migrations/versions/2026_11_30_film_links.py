"""how often the links to a film were revoked

Revision: 0020, after 0019
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0020"
down_revision: str | Sequence[str] | None = "0019"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Bring the database to this revision. A column with a constant default rewrites no row."""
    op.add_column("jobs", sa.Column("links_revoked", sa.SmallInteger(), server_default="0", nullable=False))


def downgrade() -> None:
    """Take this revision back."""
    op.drop_column("jobs", "links_revoked")
