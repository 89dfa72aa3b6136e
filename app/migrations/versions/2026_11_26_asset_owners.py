"""the project and the side (test or live) of an asset, so that keys see of assets what they see of jobs

Revision: 0010, after 0009
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from app.migrations.online import add_constraint, update_in_batches

revision: str = "0010"
down_revision: str | Sequence[str] | None = "0009"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Bring the database to this revision. Nobody noted for which project an asset came: it is the account's."""
    op.add_column("assets", sa.Column("project_id", sa.Text(), nullable=True), if_not_exists=True)
    op.add_column(
        "assets", sa.Column("test", sa.Boolean(), nullable=False, server_default=sa.false()), if_not_exists=True
    )
    add_constraint("fk_assets_project_id", "assets", "FOREIGN KEY (project_id) REFERENCES projects (id)")
    update_in_batches(
        "assets",
        "test = true",
        "accounts.id = assets.account_id AND accounts.test AND NOT assets.test",
        sources=", accounts",
    )
    op.alter_column("assets", "test", server_default=None)


def downgrade() -> None:
    """Take this revision back."""
    op.drop_column("assets", "test")
    op.drop_constraint(op.f("fk_assets_project_id"), "assets", type_="foreignkey")
    op.drop_column("assets", "project_id")
