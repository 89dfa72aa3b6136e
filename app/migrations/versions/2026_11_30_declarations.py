"""what is declared of uploaded files

Revision: 0059, after 0058
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0059"
down_revision: str | Sequence[str] | None = "0058"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Bring the database to this revision. Columns without a default, or with a constant one, rewrite no row."""
    op.add_column("assets", sa.Column("declaration", postgresql.JSONB(), nullable=True), if_not_exists=True)
    required = sa.Column("declarations_required", sa.Boolean(), server_default=sa.false(), nullable=False)
    op.add_column("accounts", required, if_not_exists=True)
    moment = sa.DateTime(timezone=True)
    op.add_column("accounts", sa.Column("rights_declared_at", moment, nullable=True), if_not_exists=True)
    op.add_column("accounts", sa.Column("rights_declared_by", sa.Text(), nullable=True), if_not_exists=True)


def downgrade() -> None:
    """Take this revision back."""
    for column in ("rights_declared_by", "rights_declared_at", "declarations_required"):
        op.drop_column("accounts", column)
    op.drop_column("assets", "declaration")
