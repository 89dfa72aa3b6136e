"""indices for the operators' lists of films and deliveries

Revision: 0017, after 0016
"""

from collections.abc import Sequence

from app.migrations.online import add_index, drop_index

revision: str = "0017"
down_revision: str | Sequence[str] | None = "0016"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TABLES = ("jobs", "webhook_deliveries")


def upgrade() -> None:
    """Bring the database to this revision."""
    for table in TABLES:
        add_index(f"ix_{table}_created", table, ["created_at", "id"])
        add_index(f"ix_{table}_state_created", table, ["state", "created_at", "id"])


def downgrade() -> None:
    """Take this revision back."""
    for table in TABLES:
        drop_index(f"ix_{table}_state_created", table)
        drop_index(f"ix_{table}_created", table)
