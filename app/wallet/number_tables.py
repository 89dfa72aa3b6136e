"""Tables of the numbers of receipts (decision 0173)."""

from sqlalchemy import BigInteger, ForeignKey, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, append_only


class ReceiptNumber(Base):
    """The number of a job's receipt in its account: without a gap, live and test jobs apart.

    Receipts that were settled before there were such numbers have none: they keep the number of their own row
    (`ReceiptNumbering`).
    """

    __tablename__ = "receipt_numbers"
    __table_args__ = (UniqueConstraint("account_id", "test", "number"),)

    job_id: Mapped[str] = mapped_column(Text, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("wallets.account_id"))
    test: Mapped[bool]
    number: Mapped[int] = mapped_column(BigInteger)


append_only(Base.metadata.tables["receipt_numbers"], "the number of a receipt is never changed or removed")


class ReceiptNumbering(Base):
    """The greatest position of a receipt that is older than such numbers: every later receipt has one. At most one row.

    The migration that brings the numbers writes it; without a row no receipt is older.
    """

    __tablename__ = "receipt_numbering"

    older_until: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)


append_only(Base.metadata.tables["receipt_numbering"], "from which receipt on accounts number theirs is never changed")

# For the table of receipts: a receipt that has no number when its transaction commits gets the next one of its account.
# A worker of the release before writes such receipts during an upgrade; its settlement has locked the wallet by then.
# A counter of 0 may be one that the migration has not filled yet.
NUMBER_AT_COMMIT = (
    """
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
    """,
    """
    CREATE CONSTRAINT TRIGGER receipts_are_numbered AFTER INSERT ON receipts DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION receipts_are_numbered()
    """,
)
