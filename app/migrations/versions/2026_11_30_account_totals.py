"""indices for the spending of accounts and for the number of accounts of a membership

Revision: 0043, after 0042
"""

from collections.abc import Sequence

from app.migrations.online import add_index, drop_index

revision: str = "0043"
down_revision: str | Sequence[str] | None = "0042"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

KEY = ["account_id", "settled_at"]


def upgrade() -> None:
    """Bring the database to this revision."""
    add_index("ix_receipts_account_totals", "receipts", KEY, include=["total", "test"])
    drop_index("ix_receipts_account", "receipts")
    add_index("ix_membership_periods_name", "membership_periods", ["name"])


def downgrade() -> None:
    """Take this revision back."""
    drop_index("ix_membership_periods_name", "membership_periods")
    add_index("ix_receipts_account", "receipts", KEY)
    drop_index("ix_receipts_account_totals", "receipts")
