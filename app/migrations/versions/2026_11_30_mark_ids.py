"""the number of a film that its watermark carries

Revision: 0042, after 0041
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from app.migrations.online import add_index

revision: str = "0042"
down_revision: str | Sequence[str] | None = "0041"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Bring the database to this revision."""
    op.execute(f"CREATE SEQUENCE IF NOT EXISTS mark_ids MAXVALUE {2**48 - 1}")
    # Films that were ordered before have none: a default that is set afterwards changes no row.
    op.add_column("jobs", sa.Column("mark_id", sa.BigInteger(), nullable=True), if_not_exists=True)
    op.alter_column("jobs", "mark_id", server_default=sa.text("nextval('mark_ids')"))
    add_index("ix_jobs_mark_id", "jobs", ["mark_id"], where="mark_id IS NOT NULL")


def downgrade() -> None:
    """Take this revision back."""
    op.drop_column("jobs", "mark_id")
    op.execute("DROP SEQUENCE mark_ids")
