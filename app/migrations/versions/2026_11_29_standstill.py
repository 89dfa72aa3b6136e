"""time-outs of whoever stands still, indices so that nothing reads history, heartbeats that stay in their page

Revision: 0012, after 0011
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0012"
down_revision: str | Sequence[str] | None = "0011"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Bring the database to this revision. Indices are built concurrently: readers and writers go on."""
    op.add_column("takes", sa.Column("renewed_at", sa.DateTime(timezone=True), nullable=True))
    op.execute("ALTER TABLE takes SET (fillfactor = 80)")
    op.execute("ALTER TABLE workers SET (fillfactor = 50)")
    with op.get_context().autocommit_block():
        op.create_index("ix_takes_unit", "takes", ["unit_id"], postgresql_concurrently=True, if_not_exists=True)
        op.create_index(
            "ix_workers_live",
            "workers",
            ["id"],
            postgresql_where=sa.text("state <> 'gone'"),
            postgresql_concurrently=True,
            if_not_exists=True,
        )
        op.drop_index("ix_takes_lease", table_name="takes", postgresql_concurrently=True, if_exists=True)
        op.drop_index("ix_workers_seen", table_name="workers", postgresql_concurrently=True, if_exists=True)


def downgrade() -> None:
    """Take this revision back."""
    op.create_index("ix_workers_seen", "workers", ["seen_at"])
    op.create_index("ix_takes_lease", "takes", ["lease_until"], postgresql_where=sa.text("state = 'running'"))
    op.drop_index("ix_workers_live", table_name="workers")
    op.drop_index("ix_takes_unit", table_name="takes")
    op.execute("ALTER TABLE workers RESET (fillfactor)")
    op.execute("ALTER TABLE takes RESET (fillfactor)")
    op.drop_column("takes", "renewed_at")
