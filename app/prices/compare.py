"""Compare a stored book or contract with another one: changes in words and in figures."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.clock import now
from app.errors import AppError
from app.prices.find import book_by_id, contract_by_id
from pricing.diff import Change, Figure, diff, figures


@dataclass(frozen=True)
class Comparison:
    """The changes from one document (None: there was none) to another, and the prices per second that changed."""

    against: str | None
    changes: tuple[Change, ...]
    figures: tuple[Figure, ...]


def compare_book(session: Session, book_id: str, against: str | None = None) -> Comparison:
    """Compare a book with another one, by default with the one that it is based on.

    The figures are those of the moment at which the book takes effect, or of now; unchanged ones are left out.

    Raises AppError `not_found`.
    """
    stored = book_by_id(session, book_id)
    base = against or stored.based_on
    if base is None:
        return Comparison(None, (), ())
    old = book_by_id(session, base)
    moment = stored.effective_at or now(session)
    moved = tuple(each for each in figures(old.book, stored.book, moment) if each.before != each.after)
    return Comparison(old.id, diff(old.book, stored.book), moved)


def compare_contract(session: Session, contract_id: str, against: str | None = None) -> Comparison:
    """Compare a contract with another one of the same account, by default with the one that it is based on.

    Raises AppError `not_found`; `invalid_request` for another account's contract.
    """
    stored = contract_by_id(session, contract_id)
    base = against or stored.based_on
    if base is None:
        return Comparison(None, (), ())
    old = contract_by_id(session, base)
    if old.account_id != stored.account_id:
        raise AppError("invalid_request", "The two contracts are with different accounts.", field="against")
    return Comparison(old.id, diff(old.contract, stored.contract), ())
