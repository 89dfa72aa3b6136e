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

# An account counts on from the greatest number that one of its older receipts has, so that no number comes twice.
# Receipts are read before wallets are locked. Those that came meanwhile have their numbers of the trigger.
_COUNTERS = f"""
    WITH batch AS (SELECT account_id FROM wallets WHERE account_id > :last ORDER BY account_id LIMIT {BATCH}),
    newest AS MATERIALIZED (
        SELECT account_id, max(number) FILTER (WHERE NOT test) AS live, max(number) FILTER (WHERE test) AS test
        FROM receipts AS r JOIN batch USING (account_id)
        WHERE NOT EXISTS (SELECT FROM receipt_numbers AS n WHERE n.job_id = r.job_id)
        GROUP BY account_id
    ),
    counted AS (
        UPDATE wallets AS w
        SET live_receipts = greatest(w.live_receipts, n.live), test_receipts = greatest(w.test_receipts, n.test)
        FROM newest AS n WHERE w.account_id = n.account_id
    )
    SELECT max(account_id) FROM batch
"""

# A worker of the release before writes receipts without such a number; they get it at commit.
_NUMBER_AT_COMMIT = """
    CREATE OR REPLACE FUNCTION receipts_are_numbered() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        older bigint;
    BEGIN
        IF EXISTS (SELECT FROM receipt_numbers WHERE job_id = NEW.job_id) THEN
            RETURN NULL;
        END IF;
        PERFORM FROM wallets WHERE account_id = NEW.account_id FOR NO KEY UPDATE;
        SELECT max(r.number) INTO older
        FROM wallets AS w JOIN receipts AS r ON r.account_id = w.account_id
        WHERE w.account_id = NEW.account_id AND r.test = NEW.test AND r.job_id <> NEW.job_id
            AND CASE WHEN NEW.test THEN w.test_receipts ELSE w.live_receipts END = 0
            AND NOT EXISTS (SELECT FROM receipt_numbers AS n WHERE n.job_id = r.job_id);
        WITH wallet AS (
            UPDATE wallets
            SET live_receipts = CASE WHEN NEW.test THEN live_receipts ELSE greatest(live_receipts, older) + 1 END,
                test_receipts = CASE WHEN NEW.test THEN greatest(test_receipts, older) + 1 ELSE test_receipts END
            WHERE account_id = NEW.account_id
            RETURNING account_id, CASE WHEN NEW.test THEN test_receipts ELSE live_receipts END AS number
        )
        INSERT INTO receipt_numbers (job_id, account_id, test, number)
        SELECT NEW.job_id, account_id, NEW.test, number FROM wallet;
        RETURN NULL;
    END $$
    """


def upgrade() -> None:
    """Bring the database to this revision."""
    # The same order as a settlement's: receipts, then wallets. Nobody writes a receipt until this has committed.
    _number_at_commit()
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
    _keep("receipt_numbers", "the number of a receipt is never changed or removed")
    for name in ("live_receipts", "test_receipts"):
        column = sa.Column(name, sa.BigInteger(), nullable=False, server_default="0")
        op.add_column("wallets", column, if_not_exists=True)
    with op.get_context().autocommit_block():
        run_batches(sa.text(_COUNTERS))


def _number_at_commit() -> None:
    """Number each new receipt, and write down which ones are older."""
    op.execute(_NUMBER_AT_COMMIT)
    op.execute("DROP TRIGGER IF EXISTS receipts_are_numbered ON receipts")
    op.execute(
        """
        CREATE CONSTRAINT TRIGGER receipts_are_numbered AFTER INSERT ON receipts DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION receipts_are_numbered()
        """
    )
    op.create_table(
        "receipt_numbering",
        sa.Column("older_until", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("older_until", name=op.f("pk_receipt_numbering")),
        if_not_exists=True,
    )
    op.execute(
        """
        INSERT INTO receipt_numbering (older_until)
        SELECT max(number) FROM receipts
        WHERE NOT EXISTS (SELECT FROM receipt_numbering) HAVING max(number) IS NOT NULL
        """
    )
    _keep("receipt_numbering", "from which receipt on accounts number theirs is never changed")


def _keep(table: str, message: str) -> None:
    """Have the database refuse every update and delete of a table's rows with the error `message`."""
    op.execute(
        f"""
        CREATE OR REPLACE FUNCTION {table}_stay() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION USING ERRCODE = 'integrity_constraint_violation',
                MESSAGE = '{message}';
        END $$
        """
    )
    op.execute(
        f"""
        CREATE OR REPLACE TRIGGER {table}_stay BEFORE UPDATE OR DELETE ON {table}
        FOR EACH ROW EXECUTE FUNCTION {table}_stay()
        """
    )


def downgrade() -> None:
    """Take this revision back."""
    op.execute("DROP TRIGGER IF EXISTS receipts_are_numbered ON receipts")
    op.execute("DROP FUNCTION IF EXISTS receipts_are_numbered()")
    for name in ("test_receipts", "live_receipts"):
        op.drop_column("wallets", name)
    for name in ("receipt_numbers", "receipt_numbering"):
        op.drop_table(name)
        op.execute(f"DROP FUNCTION IF EXISTS {name}_stay()")
