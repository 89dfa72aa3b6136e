"""indices for the console's inbox and for the filters of the audit log

Revision: 0039, after 0038
"""

from collections.abc import Sequence

from app.migrations.online import add_index, drop_index

revision: str = "0039"
down_revision: str | Sequence[str] | None = "0038"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

WAITING = "state IN ('draft', 'approved')"
FAILING = "failing_since IS NOT NULL AND deleted_at IS NULL AND disabled_at IS NULL"


def upgrade() -> None:
    """Bring the database to this revision."""
    add_index("ix_price_books_waiting", "price_books", ["edited_at"], where=WAITING)
    add_index("ix_contracts_waiting", "contracts", ["edited_at"], where=WAITING)
    add_index("ix_webhook_endpoints_failing", "webhook_endpoints", ["failing_since"], where=FAILING)
    add_index("ix_audit_entries_actor", "audit_entries", ["actor", "number"])
    add_index("ix_audit_entries_act", "audit_entries", ["act", "number"])
    add_index("ix_audit_entries_at", "audit_entries", ["at"])


def downgrade() -> None:
    """Take this revision back."""
    for name in ("ix_audit_entries_at", "ix_audit_entries_act", "ix_audit_entries_actor"):
        drop_index(name, "audit_entries")
    drop_index("ix_webhook_endpoints_failing", "webhook_endpoints")
    drop_index("ix_contracts_waiting", "contracts")
    drop_index("ix_price_books_waiting", "price_books")
