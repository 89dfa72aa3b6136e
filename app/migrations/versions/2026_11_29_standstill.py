"""time-outs of whoever stands still, indices so that nothing reads history, heartbeats that stay in their page

Revision: 0012, after 0011
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from app.migrations.online import add_index, drop_index

revision: str = "0012"
down_revision: str | Sequence[str] | None = "0011"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Bring the database to this revision. Indices are built concurrently: readers and writers go on."""
    op.add_column("takes", sa.Column("renewed_at", sa.DateTime(timezone=True), nullable=True), if_not_exists=True)
    op.execute("ALTER TABLE takes SET (fillfactor = 80)")
    op.execute("ALTER TABLE jobs SET (fillfactor = 80)")
    op.execute("ALTER TABLE workers SET (fillfactor = 50)")
    add_index("ix_takes_unit", "takes", ["unit_id"])
    add_index("ix_workers_live", "workers", ["id"], where="state <> 'gone'")
    drop_index("ix_takes_lease", "takes")
    drop_index("ix_workers_seen", "workers")


def downgrade() -> None:
    """Take this revision back."""
    op.create_index("ix_workers_seen", "workers", ["seen_at"])
    op.create_index("ix_takes_lease", "takes", ["lease_until"], postgresql_where=sa.text("state = 'running'"))
    op.drop_index("ix_workers_live", table_name="workers")
    op.drop_index("ix_takes_unit", table_name="takes")
    op.execute("ALTER TABLE workers RESET (fillfactor)")
    op.execute("ALTER TABLE jobs RESET (fillfactor)")
    op.execute("ALTER TABLE takes RESET (fillfactor)")
    op.drop_column("takes", "renewed_at")
