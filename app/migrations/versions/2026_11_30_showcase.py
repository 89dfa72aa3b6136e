"""films that their owners let everybody see

Revision: 0037, after 0035
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0037"
down_revision: str | Sequence[str] | None = "0035"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Bring the database to this revision."""
    op.create_table(
        "showcase_agreements",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("agreed_by", sa.Text(), nullable=False),
        sa.Column("agreed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_by", sa.Text(), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("chosen_by", sa.Text(), nullable=True),
        sa.Column("chosen_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(revoked_at IS NULL) = (revoked_by IS NULL)", name=op.f("ck_showcase_agreements_revoked_by_somebody")
        ),
        sa.CheckConstraint(
            "(chosen_at IS NULL) = (chosen_by IS NULL)", name=op.f("ck_showcase_agreements_chosen_by_somebody")
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_showcase_agreements_account_id_accounts")
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_showcase_agreements_job_id_jobs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_showcase_agreements")),
    )
    op.create_index(
        "uq_showcase_agreements_open",
        "showcase_agreements",
        ["job_id"],
        unique=True,
        postgresql_where=sa.text("revoked_at IS NULL"),
    )
    op.create_index(
        "ix_showcase_agreements_agreed",
        "showcase_agreements",
        ["agreed_at"],
        postgresql_where=sa.text("revoked_at IS NULL"),
    )
    op.create_index(
        "ix_showcase_agreements_chosen",
        "showcase_agreements",
        ["chosen_at"],
        postgresql_where=sa.text("revoked_at IS NULL AND chosen_at IS NOT NULL"),
    )


def downgrade() -> None:
    """Take this revision back."""
    op.drop_table("showcase_agreements")
