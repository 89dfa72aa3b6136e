"""top-ups that wait for a second operator

Revision: 0025, after 0024
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0025"
down_revision: str | Sequence[str] | None = "0024"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Bring the database to this revision."""
    op.create_table(
        "top_up_requests",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(state = 'open') = (decided_at IS NULL)", name=op.f("ck_top_up_requests_decided_has_time")),
        sa.CheckConstraint("state IN ('open', 'approved', 'withdrawn')", name=op.f("ck_top_up_requests_state")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_top_up_requests_account_id_accounts")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_top_up_requests")),
        sa.UniqueConstraint(
            "account_id", "kind", "reference", name=op.f("uq_top_up_requests_account_id_kind_reference")
        ),
    )
    op.create_index(
        "ix_top_up_requests_open",
        "top_up_requests",
        ["account_id", "requested_at"],
        postgresql_where=sa.text("state = 'open'"),
    )


def downgrade() -> None:
    """Take this revision back."""
    op.drop_table("top_up_requests")
