"""an index that holds all by which films are filtered

Revision: 0031, after 0030
"""

from collections.abc import Sequence

from sqlalchemy import text

from app.migrations.online import add_index, drop_index

revision: str = "0031"
down_revision: str | Sequence[str] | None = "0030"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Bring the database to this revision."""
    # It begins as the index that it replaces.
    columns = ["account_id", "created_at", "id", "test", "model", "project_id", "state"]
    add_index("ix_jobs_films", "jobs", [*columns, text("(spec ->> 'ratio')")])
    drop_index("ix_jobs_account_created", "jobs")


def downgrade() -> None:
    """Take this revision back."""
    add_index("ix_jobs_account_created", "jobs", ["account_id", "created_at", "id"])
    drop_index("ix_jobs_films", "jobs")
