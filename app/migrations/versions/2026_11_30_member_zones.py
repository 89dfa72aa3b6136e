"""the time zone of a member's pages, and the alert of a project's spending

Revision: 0044, after 0043
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0044"
down_revision: str | Sequence[str] | None = "0043"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Bring the database to this revision."""
    op.add_column("members", sa.Column("zone", sa.Text(), nullable=True), if_not_exists=True)
    op.add_column("projects", sa.Column("alert_month", sa.BigInteger(), nullable=True), if_not_exists=True)
    op.add_column("projects", sa.Column("alert_told_month", sa.Text(), nullable=True), if_not_exists=True)


def downgrade() -> None:
    """Take this revision back."""
    op.drop_column("projects", "alert_told_month")
    op.drop_column("projects", "alert_month")
    op.drop_column("members", "zone")
