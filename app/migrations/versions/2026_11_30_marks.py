"""the marks that an uploaded file carried when it came in

Revision: 0041, after 0039
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0041"
down_revision: str | Sequence[str] | None = "0039"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Bring the database to this revision. A column without a default rewrites no row."""
    op.add_column("assets", sa.Column("marks", postgresql.JSONB(), nullable=True))


def downgrade() -> None:
    """Take this revision back."""
    op.drop_column("assets", "marks")
