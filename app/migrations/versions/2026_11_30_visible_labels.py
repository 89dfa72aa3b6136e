"""the visible label of an account's films

Revision: 0049, after 0048
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from app.migrations.online import add_constraint

revision: str = "0049"
down_revision: str | Sequence[str] | None = "0048"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Bring the database to this revision. A column without a default rewrites no row."""
    op.add_column("accounts", sa.Column("visible_label", sa.Text(), nullable=True), if_not_exists=True)
    allowed = "visible_label IN ('none', 'corner_sign', 'gb45438', 'eu_icon')"
    add_constraint("ck_accounts_visible_label", "accounts", f"CHECK ({allowed})")


def downgrade() -> None:
    """Take this revision back."""
    op.drop_column("accounts", "visible_label")
