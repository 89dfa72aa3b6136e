"""how many frames of a film show reused shots alone, on films that were made before this was noted

Revision: 0011, after 0010
"""

from collections.abc import Sequence

from alembic import op

from app.migrations.online import update_in_batches

revision: str = "0011"
down_revision: str | Sequence[str] | None = "0010"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Bring the database to this revision. Their receipts took all frames of reused shots off, so that is noted."""
    update_in_batches(
        "jobs",
        """film = film || jsonb_build_object('reused_frames', least(
            (film ->> 'frames')::int,
            (SELECT coalesce(sum((shot ->> 'frames')::int), 0) FROM jsonb_array_elements(spec -> 'shots') AS shot
             WHERE jsonb_array_length(shot -> 'reuse_clips') > 0)
        ))""",
        "film IS NOT NULL AND NOT film ? 'reused_frames'",
    )


def downgrade() -> None:
    """Take this revision back."""
    op.execute("UPDATE jobs SET film = film - 'reused_frames' WHERE film IS NOT NULL")
