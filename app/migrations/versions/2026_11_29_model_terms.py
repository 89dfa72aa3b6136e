"""terms of models that an operator has accepted

Revision: 0019, after 0018
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0019"
down_revision: str | Sequence[str] | None = "0018"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Bring the database to this revision."""
    op.create_table(
        "acknowledged_terms",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("terms_hash", sa.Text(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("model", "terms_hash", name=op.f("pk_acknowledged_terms")),
    )
    op.execute(
        """
        CREATE OR REPLACE FUNCTION acknowledged_terms_stay() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION USING ERRCODE = 'integrity_constraint_violation',
                MESSAGE = 'what an operator has accepted is never changed';
        END $$
        """
    )
    op.execute(
        """
        CREATE OR REPLACE TRIGGER acknowledged_terms_stay BEFORE UPDATE OR DELETE ON acknowledged_terms
        FOR EACH ROW EXECUTE FUNCTION acknowledged_terms_stay()
        """
    )


def downgrade() -> None:
    """Take this revision back."""
    op.drop_table("acknowledged_terms")
    op.execute("DROP FUNCTION acknowledged_terms_stay()")
