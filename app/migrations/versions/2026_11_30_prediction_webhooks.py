"""when a film is cancelled by itself, and what its callback URL is called for and with

Revision: 0038, after 0037
"""

from collections.abc import Sequence

from alembic import op

from app.migrations.online import add_index, drop_index

revision: str = "0038"
down_revision: str | Sequence[str] | None = "0037"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Bring the database to this revision. Empty columns rewrite no row; a second try adds nothing twice."""
    op.execute("ALTER TABLE jobs ADD COLUMN IF NOT EXISTS cancel_at timestamptz")
    op.execute("ALTER TABLE jobs ADD COLUMN IF NOT EXISTS callback_events text[]")
    op.execute("ALTER TABLE events ADD COLUMN IF NOT EXISTS callback_body text")
    add_index(
        "ix_jobs_cancel_at",
        "jobs",
        ["cancel_at"],
        where="state IN ('queued', 'in_progress') AND cancel_at IS NOT NULL",
    )


def downgrade() -> None:
    """Take this revision back."""
    drop_index("ix_jobs_cancel_at", "jobs")
    op.drop_column("events", "callback_body")
    op.drop_column("jobs", "callback_events")
    op.drop_column("jobs", "cancel_at")
