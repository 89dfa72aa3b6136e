"""names and favourites of films

Revision: 0030, after 0025
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0030"
down_revision: str | Sequence[str] | None = "0025"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Bring the database to this revision."""
    op.create_table(
        "film_labels",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("is_favourite", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_film_labels_job_id_jobs")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_film_labels")),
    )
    op.create_index(
        "ix_film_labels_favourites",
        "film_labels",
        ["account_id", "job_id"],
        postgresql_where=sa.text("is_favourite"),
    )


def downgrade() -> None:
    """Take this revision back."""
    op.drop_table("film_labels")
