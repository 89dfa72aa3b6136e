"""an index of the workers that are gone, so that their removal reads no others

Revision: 0014, after 0013
"""

from collections.abc import Sequence

from app.migrations.online import add_index, drop_index

revision: str = "0014"
down_revision: str | Sequence[str] | None = "0013"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Bring the database to this revision."""
    add_index("ix_workers_gone", "workers", ["started_at"], where="state = 'gone'")


def downgrade() -> None:
    """Take this revision back."""
    drop_index("ix_workers_gone", "workers")
