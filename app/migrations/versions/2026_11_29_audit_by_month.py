"""sums over sealed months, figures of the service by quarter of an hour, and the indices that both read by

Revision: 0021, after 0020
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from app.migrations.online import add_index, drop_index

revision: str = "0021"
down_revision: str | Sequence[str] | None = "0020"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# Name, table, columns, and the condition of a partial index.
INDICES: tuple[tuple[str, str, list[str], str | None], ...] = (
    ("ix_transfers_at", "transfers", ["at"], None),
    ("ix_transfers_refunds", "transfers", ["at"], "kind = 'refund'"),
    ("ix_holds_resolved", "holds", ["resolved_at"], "resolved_at IS NOT NULL"),
    ("ix_hold_slices_refunded", "hold_slices", ["lot_id"], "refunded > 0"),
    ("ix_reservations_resolved", "reservations", ["resolved_at"], None),
    ("ix_takes_ended", "takes", ["ended_at"], "ended_at IS NOT NULL"),
    ("ix_units_blocked", "units", ["pool"], "state = 'blocked'"),
    ("ix_jobs_model_created", "jobs", ["model", "created_at", "id"], None),
)


def upgrade() -> None:
    """Bring the database to this revision."""
    for name, table, columns, where in INDICES:
        add_index(name, table, columns, where=where)
    add_index("ix_jobs_id_prefix", "jobs", ["id"], operators={"id": "text_pattern_ops"})
    op.create_table(
        "sealed_sums",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "subject", name=op.f("pk_sealed_sums")),
    )
    # A seal now covers transfers, holds and reservations too. The next audit seals the months again.
    op.execute("TRUNCATE sealed_months")
    op.add_column("sealed_months", sa.Column("sums_digest", sa.Text(), nullable=False))
    op.create_table(
        "service_figures",
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("error_code", sa.Text(), nullable=False),
        sa.Column("charged", sa.BigInteger(), nullable=False),
        sa.Column("refunded", sa.BigInteger(), nullable=False),
        sa.Column("films", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Numeric(), nullable=False),
        sa.Column("gpu_seconds", sa.Numeric(), nullable=False),
        sa.PrimaryKeyConstraint("starts_at", "error_code", name=op.f("pk_service_figures")),
    )


def downgrade() -> None:
    """Take this revision back."""
    drop_index("ix_jobs_id_prefix", "jobs")
    for name, table, _, _ in INDICES:
        drop_index(name, table)
    op.drop_table("service_figures")
    op.execute("TRUNCATE sealed_months")
    op.drop_column("sealed_months", "sums_digest")
    op.drop_table("sealed_sums")
