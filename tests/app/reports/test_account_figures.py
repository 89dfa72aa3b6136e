"""What an account has spent is summed from an index alone, however many receipts it has."""

from sqlalchemy import text
from sqlalchemy.orm import Session


def test_the_spending_of_an_account_reads_no_receipt(session: Session) -> None:
    # A table this small would be read whole.
    for setting in ("enable_seqscan", "enable_bitmapscan"):
        session.execute(text(f"SET LOCAL {setting} = off"))
    spent = """
        EXPLAIN SELECT sum(total) FROM receipts
        WHERE account_id = 'acc' AND settled_at >= now() - interval '30 days' AND test IS false
    """
    plan = "\n".join(session.scalars(text(spent)))
    assert "Index Only Scan using ix_receipts_account_totals" in plan
