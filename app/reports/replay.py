"""Replay: compute a receipt again from its recorded inputs, byte for byte."""

from sqlalchemy.orm import Session

from app.errors import AppError, not_found
from app.jobs.settle import make_receipt, receipt_columns
from app.jobs.states import is_final
from app.jobs.tables import Job, ReceiptRow
from app.prices.find import StoredBook, book_by_hash
from pricing.book import PriceBook
from pricing.receipt import ReceiptError, read_receipt, replay


class Books:
    """The price books that receipts name by their hash, each looked up once: their text never changes."""

    def __init__(self, session: Session) -> None:
        self._session = session
        # The rows, not only what they say: a session forgets a row that nobody holds, and would ask for it again.
        self._known: dict[str, StoredBook] = {}

    def find(self, content_hash: str) -> PriceBook:
        """Return the book. Raises AppError `not_found`."""
        if content_hash not in self._known:
            self._known[content_hash] = book_by_hash(self._session, content_hash)
        return self._known[content_hash].book


def replay_row(session: Session, row: ReceiptRow, books: Books | None = None) -> str | None:
    """Return what differs when a stored receipt is computed again, or None when every byte agrees.

    It is computed twice: from the inputs that it records, with the book of the recorded hash; and from its job's own
    row, so that a receipt that was rewritten as a whole is noticed too. The columns beside it must agree with it.
    """
    stored = row.body.encode()
    try:
        again = replay(stored, (books or Books(session)).find(str(read_receipt(stored)["book"]["hash"])))
    except ReceiptError as error:
        return str(error)
    except AppError as error:
        return error.message
    if again != stored:
        return "the receipt computes to other bytes"
    job = session.get_one(Job, row.job_id)
    if not is_final(job.state):
        return f"its job is {job.state}"
    receipt = make_receipt(session, job)
    if receipt.to_json() != stored:
        return "the receipt is not what the job's own record gives"
    columns = receipt_columns(job, receipt)
    wrong = [name for name, value in columns.items() if getattr(row, name) != value]
    return f"the row's {wrong[0]} is {getattr(row, wrong[0])}, not {columns[wrong[0]]}" if wrong else None


def replay_job(session: Session, job_id: str) -> tuple[bytes, str | None]:
    """Return a job's stored receipt and what differs in its replay. Raises AppError `not_found`."""
    row = session.get(ReceiptRow, job_id)
    if row is None:
        raise not_found("receipt", job_id)
    return row.body.encode(), replay_row(session, row)
