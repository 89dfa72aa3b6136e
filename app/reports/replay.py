"""Replay: compute receipts again from their jobs' rows, byte for byte, each once."""

import json
from collections.abc import Callable, Iterator
from typing import Any, cast

from sqlalchemy import ColumnElement, Row, and_, func, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session, aliased

from app.audit_finding import AuditFinding
from app.errors import AppError, not_found
from app.events.tables import Event
from app.events.types import TERMINAL_TYPES
from app.jobs.receipts import EndedJob, make_receipt, receipt_columns
from app.jobs.states import is_final
from app.jobs.tables import Job, ReceiptRow
from app.prices.find import StoredBook, book_by_hash, book_by_id
from app.provenance.backfill_tables import FilmSuccessor
from pricing.book import PriceBook
from pricing.contract import canonical
from pricing.receipt import ReceiptError, read_receipt, replay

# Rows that are read from the database at a time: some megabytes.
PAGE = 500

_EVENT = aliased(Event)

# A film that got its marks later has another file now. Its receipt replays by the first one, which is believed only
# where the job has exactly the file that the record of both says.
_marked_facts = func.jsonb_build_object("sha256", FilmSuccessor.new_sha256, "bytes", FilmSuccessor.new_bytes)
_IS_SUCCESSOR = and_(
    FilmSuccessor.film_id == Job.id,
    FilmSuccessor.new_key == Job.film_key,
    FilmSuccessor.old_film.op("||")(_marked_facts) == Job.film,
)
# The columns of the job by their names, those of its receipt after `stored_`, so that one row is both.
_JOB = (
    *(Job.id, Job.account_id, Job.project_id, Job.test, Job.state, Job.quote_id, Job.pricing, Job.total, Job.currency),
    func.coalesce(FilmSuccessor.old_film, Job.film, type_=JSONB).label("film"),
    func.coalesce(FilmSuccessor.old_key, Job.film_key).label("film_key"),
    *(Job.error_code, Job.start_by, Job.started_at, Job.finished_at),
)
_STORED: tuple[str, ...] = (
    "account_id",
    "project_id",
    "outcome",
    "currency",
    "quoted",
    "total",
    "list_total",
    "film_key",
    "film_sha256",
)
_STORED += ("pricing_case", "priced_at", "test", "settled_at")
_ROWS = (
    select(
        ReceiptRow.body,
        *_JOB,
        *(getattr(ReceiptRow, name).label(f"stored_{name}") for name in _STORED),
        _EVENT.id.label("event_id"),
        _EVENT.type.label("event_type"),
        _EVENT.body.label("event_body"),
    )
    .join(Job, Job.id == ReceiptRow.job_id)
    .outerjoin(FilmSuccessor, _IS_SUCCESSOR)
    .outerjoin(_EVENT, (_EVENT.job_id == ReceiptRow.job_id) & _EVENT.type.in_(TERMINAL_TYPES))
)


class Books:
    """The price books that jobs and receipts name, each looked up once: their text never changes."""

    def __init__(self, session: Session) -> None:
        self._session = session
        # The rows, not only their content: a session forgets a row that nobody holds, and would ask for it again.
        self._rows: dict[str, StoredBook] = {}

    def by_id(self, book_id: str) -> PriceBook:
        """Return the book with this id. Raises AppError `not_found`."""
        return self._find(book_id, book_by_id)

    def by_hash(self, content_hash: str) -> PriceBook:
        """Return a book with this content. Raises AppError `not_found`."""
        return self._find(content_hash, book_by_hash)

    def _find(self, name: str, find: Callable[[Session, str], StoredBook]) -> PriceBook:
        if name not in self._rows:
            self._rows[name] = find(self._session, name)
        return self._rows[name].book


def replay_receipts(session: Session, *conditions: ColumnElement[bool]) -> tuple[int, list[AuditFinding]]:
    """Compute every receipt of these conditions again, and compare it with its row and with its job's last event.

    Returns how many there are, and what differs. Rows are read in pages of PAGE by one cursor.
    """
    count, findings, books = 0, [], Books(session)
    query = _ROWS.where(*conditions).order_by(ReceiptRow.position)
    for row in session.execute(query.execution_options(yield_per=PAGE)):
        count += 1
        findings += [AuditFinding(rule, subject, message) for rule, subject, message in _differences(row, books)]
    return count, findings


def replay_job(session: Session, job_id: str) -> tuple[bytes, str | None]:
    """Return a job's stored receipt and what differs in its replay. Raises AppError `not_found`."""
    row = session.execute(_ROWS.where(ReceiptRow.job_id == job_id)).first()
    if row is None:
        raise not_found("receipt", job_id)
    return row.body.encode(), next((message for _, _, message in _differences(row, Books(session))), None)


def _differences(row: Row[Any], books: Books) -> Iterator[tuple[str, str, str]]:
    """Yield rule, subject and message of what is wrong about a receipt and about the event that carries it."""
    problem = _receipt_problem(row, books)
    if problem is not None:
        yield "receipt_replays", row.id, problem
    if row.event_id is not None and not _event_agrees(row):
        message = f"event {row.event_id} of type {row.event_type} says otherwise than the receipt"
        yield "terminal_event_tells_the_receipt", row.id, message


def _receipt_problem(row: Row[Any], books: Books) -> str | None:
    """Return what is wrong about a receipt, or None when every byte and every column agrees with its job.

    Bytes that its job gives are also those that its own recorded inputs give, since those are a part of the bytes. So
    one computation is enough, and the second one only says more about a difference.
    """
    job = cast(EndedJob, row)
    if not is_final(job.state):
        return f"its job is {job.state}"
    try:
        receipt = make_receipt(books.by_id(str(job.pricing["book"])), job)
    except AppError as error:
        return error.message
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        return f"its job cannot be priced: {error!r}"
    stored = row.body.encode()
    if receipt.to_json() != stored:
        return _own_problem(stored, books) or "the receipt is not what the job's own record gives"
    for name, value in receipt_columns(job, receipt).items():
        actual = getattr(row, f"stored_{name}")
        if actual != value:
            return f"the row's {name} is {actual}, not {value}"
    return None


def _own_problem(stored: bytes, books: Books) -> str | None:
    """Return what is wrong about a stored receipt by itself: it does not follow from the inputs that it records."""
    try:
        again = replay(stored, books.by_hash(str(read_receipt(stored)["book"]["hash"])))
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        return str(error) if isinstance(error, ReceiptError) else f"the recorded inputs cannot be read: {error!r}"
    except AppError as error:
        return error.message
    return None if again == stored else "the receipt computes to other bytes"


def _event_agrees(row: Row[Any]) -> bool:
    """Return whether the job's last event has the type of the receipt's outcome, and the receipt in its data."""
    try:
        # In canonical form, so that a changed type of a value counts too.
        receipt = canonical(json.loads(row.event_body)["data"]["receipt"])
    except (KeyError, TypeError, ValueError):
        return False
    return bool(row.event_type == f"video.{row.stored_outcome}" and receipt == row.body.encode())
