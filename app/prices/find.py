"""Find books and contracts, and which one is in force at a moment."""

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.errors import AppError, not_found
from app.prices.parse_cache import CACHE_SIZE
from app.prices.tables import PriceDocumentState, StoredBook, StoredContract
from pricing.book import PriceBook
from pricing.contract import Contract

__all__ = [
    "StoredBook",
    "book_at",
    "book_by_hash",
    "book_by_id",
    "contract_at",
    "contract_by_id",
    "contracts_by_hash",
    "list_books",
    "list_contracts",
    "no_book",
    "recorded_book",
    "recorded_contract",
]

Document = TypeVar("Document", PriceBook, Contract)

# By id and content hash: a document that has taken effect never changes.
_books: dict[tuple[str, str], PriceBook] = {}
_contracts: dict[tuple[str, str], Contract] = {}


def book_at(session: Session, at: datetime) -> StoredBook:
    """Return the book in force at a moment: of the scheduled ones, the last whose effective moment had come.

    Raises AppError `no_rate` before the first book took effect.
    """
    stored = session.scalar(
        select(StoredBook)
        .where(StoredBook.state == str(PriceDocumentState.SCHEDULED), StoredBook.effective_at <= at)
        .order_by(StoredBook.effective_at.desc())
        .limit(1)
    )
    if stored is None:
        raise no_book()
    return stored


def newest_book(session: Session) -> StoredBook | None:
    """Return the scheduled or published book that takes effect last; a new one must be based on it."""
    return session.scalar(
        select(StoredBook)
        .where(StoredBook.state == str(PriceDocumentState.SCHEDULED))
        .order_by(StoredBook.effective_at.desc())
        .limit(1)
    )


def book_by_id(session: Session, book_id: str) -> StoredBook:
    """Return a book. Raises `not_found`."""
    stored = session.get(StoredBook, book_id)
    if stored is None:
        raise not_found("price book", book_id)
    return stored


def no_book() -> AppError:
    """Return the refusal of a price at a moment at which no book is in force."""
    return AppError("no_rate", "No price book is in force; nothing is sold without a price.")


def recorded_book(session: Session, book_id: str, content_hash: str) -> PriceBook:
    """Return a book that has taken effect, by its id and content; each process reads it once. Raises `not_found`."""
    return _recall(_books, (book_id, content_hash), lambda: book_by_id(session, book_id).book)


def recorded_contract(session: Session, contract_id: str, content_hash: str) -> Contract:
    """Return a contract that has taken effect, by its id and content; each process reads it once."""
    return _recall(_contracts, (contract_id, content_hash), lambda: contract_by_id(session, contract_id).contract)


def _recall(known: dict[tuple[str, str], Document], key: tuple[str, str], read: Callable[[], Document]) -> Document:
    document = known.get(key)
    if document is None:
        if len(known) >= CACHE_SIZE:
            known.clear()
        document = known[key] = read()
    return document


def book_by_hash(session: Session, content_hash: str) -> StoredBook:
    """Return a book with this content; any will do, as they say the same. Raises `not_found`."""
    stored = session.scalar(select(StoredBook).where(StoredBook.content_hash == content_hash).limit(1))
    if stored is None:
        raise not_found("price book", content_hash)
    return stored


def list_books(session: Session) -> list[StoredBook]:
    """Return all books, those that take effect last first, drafts before them."""
    order = (StoredBook.effective_at.desc().nulls_first(), StoredBook.created_at.desc(), StoredBook.id)
    return list(session.scalars(select(StoredBook).order_by(*order)))


def contract_at(session: Session, account_id: str, at: datetime) -> Contract | None:
    """Return the contract of an account that is in force at a moment, parsed, or None.

    The last one whose effective moment had come; when that one was ended, none: an older one does not return.
    """
    stored = session.scalar(
        select(StoredContract)
        .where(
            StoredContract.account_id == account_id,
            StoredContract.state == str(PriceDocumentState.SCHEDULED),
            StoredContract.effective_at <= at,
        )
        .order_by(StoredContract.effective_at.desc())
        .limit(1)
    )
    return None if stored is None or (stored.ends_at is not None and stored.ends_at <= at) else stored.contract


def newest_contract(session: Session, account_id: str) -> StoredContract | None:
    """Return the account's contract that takes effect last; a new one must be based on it."""
    return session.scalar(
        select(StoredContract)
        .where(StoredContract.account_id == account_id, StoredContract.state == str(PriceDocumentState.SCHEDULED))
        .order_by(StoredContract.effective_at.desc())
        .limit(1)
    )


def contract_by_id(session: Session, contract_id: str) -> StoredContract:
    """Return a contract. Raises `not_found`."""
    stored = session.get(StoredContract, contract_id)
    if stored is None:
        raise not_found("contract", contract_id)
    return stored


def list_contracts(session: Session, account_id: str | None = None) -> list[StoredContract]:
    """Return the contracts of one account, or of all, those that take effect last first."""
    query = select(StoredContract)
    if account_id is not None:
        query = query.where(StoredContract.account_id == account_id)
    return list(session.scalars(query.order_by(StoredContract.effective_at.desc().nulls_first(), StoredContract.id)))


def contracts_by_hash(session: Session) -> dict[str, Contract]:
    """Return every contract ever stored, by its content hash, as receipts name it."""
    return {stored.content_hash: stored.contract for stored in session.scalars(select(StoredContract))}
