"""months whose receipts were audited, with a digest of what their rows said

Revision: 0015, after 0014
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0015"
down_revision: str | Sequence[str] | None = "0014"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Bring the database to this revision."""
    op.create_table(
        "sealed_months",
        sa.Column("month", sa.Text(), nullable=False),
        sa.Column("receipts", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("sealed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("month", name=op.f("pk_sealed_months")),
    )
    for statement in GUARDS:
        op.execute(statement)


GUARDS = (
    """
    CREATE OR REPLACE FUNCTION sealed_months_stay() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION USING ERRCODE = 'integrity_constraint_violation',
            MESSAGE = 'a sealed month is never changed or removed; `cinemeter audit --all` reads its receipts again';
    END $$
    """,
    """
    CREATE OR REPLACE TRIGGER sealed_months_stay BEFORE UPDATE OR DELETE ON sealed_months
    FOR EACH ROW EXECUTE FUNCTION sealed_months_stay()
    """,
)


def downgrade() -> None:
    """Take this revision back."""
    op.drop_table("sealed_months")
    op.execute("DROP FUNCTION sealed_months_stay()")
