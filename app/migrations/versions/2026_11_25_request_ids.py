"""the id of the request that made a job, on the job and its events, so that every log line about them can carry it

Revision: 0008, after 0007
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0008"
down_revision: str | Sequence[str] | None = "0007"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Bring the database to this revision."""
    op.add_column("jobs", sa.Column("request_id", sa.Text(), nullable=True), if_not_exists=True)
    op.add_column("events", sa.Column("request_id", sa.Text(), nullable=True), if_not_exists=True)


def downgrade() -> None:
    """Take this revision back."""
    op.drop_column("events", "request_id")
    op.drop_column("jobs", "request_id")
