"""the alias under which a film was ordered, and who was told that a model retires

Revision: 0033, after 0032
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0033"
down_revision: str | Sequence[str] | None = "0032"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Bring the database to this revision. A column without a default rewrites no row."""
    op.add_column("jobs", sa.Column("model_alias", sa.Text(), nullable=True), if_not_exists=True)
    op.create_table(
        "retirement_notices",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("test", sa.Boolean(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("retires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("noticed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_retirement_notices_account_id_accounts")
        ),
        sa.PrimaryKeyConstraint("account_id", "test", "model", "retires_at", name=op.f("pk_retirement_notices")),
        if_not_exists=True,
    )


def downgrade() -> None:
    """Take this revision back."""
    op.drop_table("retirement_notices")
    op.drop_column("jobs", "model_alias")
