"""how long the files of an order are kept, and the hash of an uploaded file as it was sent

Revision: 0034, after 0033
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from app.migrations.online import add_index, drop_index

revision: str = "0034"
down_revision: str | Sequence[str] | None = "0033"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Bring the database to this revision. Columns without a default rewrite no row."""
    op.add_column("jobs", sa.Column("retention", postgresql.JSONB(), nullable=True), if_not_exists=True)
    op.add_column("assets", sa.Column("source_sha256", sa.Text(), nullable=True), if_not_exists=True)
    add_index("ix_assets_source", "assets", ["account_id", "source_sha256"], where="state = 'ready'")


def downgrade() -> None:
    """Take this revision back."""
    drop_index("ix_assets_source", "assets")
    op.drop_column("assets", "source_sha256")
    op.drop_column("jobs", "retention")
