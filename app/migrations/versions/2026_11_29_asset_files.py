"""an index of the deleted assets whose files are still to be removed

Revision: 0022, after 0021
"""

from collections.abc import Sequence

from app.migrations.online import add_index, drop_index

revision: str = "0022"
down_revision: str | Sequence[str] | None = "0021"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Bring the database to this revision."""
    add_index("ix_assets_files_to_remove", "assets", ["expires_at"], where="state = 'deleted' AND key IS NOT NULL")


def downgrade() -> None:
    """Take this revision back."""
    drop_index("ix_assets_files_to_remove", "assets")
