"""Replay: a receipt computed again from what it records, byte for byte."""

from sqlalchemy.orm import Session

from app.errors import not_found
from app.jobs.tables import ReceiptRow
from app.prices.find import book_by_hash
from pricing.receipt import ReceiptError, read_receipt, replay


def replay_row(session: Session, row: ReceiptRow) -> str | None:
    """Return what differs when a stored receipt is computed again, or None when every byte agrees."""
    stored = row.body.encode()
    try:
        again = replay(stored, book_by_hash(session, str(read_receipt(stored)["book"]["hash"])).book)
    except ReceiptError as error:
        return str(error)
    if again != stored:
        return "the receipt computes to other bytes"
    total = read_receipt(stored)["total"]
    return None if _minor(total) == row.total else f"the row says {row.total}, the receipt {total}"


def _minor(text: str) -> int:
    # Two decimals or none, as the currency has; the digits without the point are the minor units.
    return int(text.replace(".", ""))


def replay_job(session: Session, job_id: str) -> tuple[bytes, str | None]:
    """Return a job's stored receipt and what differs in its replay. Raises AppError `not_found`."""
    row = session.get(ReceiptRow, job_id)
    if row is None:
        raise not_found("receipt", job_id)
    return row.body.encode(), replay_row(session, row)
