"""numbers of receipts by account

Revision: 0054, after 0053
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from app.migrations.online import BATCH, run_batches

revision: str = "0054"
down_revision: str | Sequence[str] | None = "0053"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# An account counts on from the greatest number that one of its receipts has, so that no number comes twice. Receipts
# are read before wallets are locked.
_COUNTERS = f"""
    WITH batch AS (SELECT account_id FROM wallets WHERE account_id > :last ORDER BY account_id LIMIT {BATCH}),
    newest AS MATERIALIZED (
        SELECT account_id, max(number) FILTER (WHERE NOT test) AS live, max(number) FILTER (WHERE test) AS test
        FROM receipts JOIN batch USING (account_id) GROUP BY account_id
    ),
    counted AS (
        UPDATE wallets AS w
        SET live_receipts = greatest(w.live_receipts, n.live), test_receipts = greatest(w.test_receipts, n.test)
        FROM newest AS n WHERE w.account_id = n.account_id
    )
    SELECT max(account_id) FROM batch
"""


def upgrade() -> None:
    """Bring the database to this revision."""
    op.create_table(
        "receipt_numbers",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("test", sa.Boolean(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["wallets.account_id"], name=op.f("fk_receipt_numbers_account_id_wallets")
        ),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_receipt_numbers")),
        sa.UniqueConstraint("account_id", "test", "number", name=op.f("uq_receipt_numbers_account_id_test_number")),
        if_not_exists=True,
    )
    op.execute(
        """
        CREATE OR REPLACE FUNCTION receipt_numbers_stay() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION USING ERRCODE = 'integrity_constraint_violation',
                MESSAGE = 'the number of a receipt is never changed or removed';
        END $$
        """
    )
    op.execute(
        """
        CREATE OR REPLACE TRIGGER receipt_numbers_stay BEFORE UPDATE OR DELETE ON receipt_numbers
        FOR EACH ROW EXECUTE FUNCTION receipt_numbers_stay()
        """
    )
    for name in ("live_receipts", "test_receipts"):
        column = sa.Column(name, sa.BigInteger(), nullable=False, server_default="0")
        op.add_column("wallets", column, if_not_exists=True)
    with op.get_context().autocommit_block():
        run_batches(sa.text(_COUNTERS))


def downgrade() -> None:
    """Take this revision back."""
    for name in ("test_receipts", "live_receipts"):
        op.drop_column("wallets", name)
    op.drop_table("receipt_numbers")
    op.execute("DROP FUNCTION IF EXISTS receipt_numbers_stay()")
