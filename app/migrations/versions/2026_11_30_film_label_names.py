"""an index by which the names of an account's films are searched

Revision: 0032, after 0031
"""

from collections.abc import Sequence

from app.migrations.online import add_index, drop_index

revision: str = "0032"
down_revision: str | Sequence[str] | None = "0031"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Bring the database to this revision."""
    add_index("ix_film_labels_account", "film_labels", ["account_id"])


def downgrade() -> None:
    """Take this revision back."""
    drop_index("ix_film_labels_account", "film_labels")
