"""By what an account's films are priced at a moment: the price book in force, and the customer."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from app.accounts.memberships import membership_at
from app.clock import now
from app.prices.find import book_at, contract_at
from app.prices.reservations import allowance
from pricing.book import PriceBook
from pricing.usage import Customer


@dataclass(frozen=True)
class PriceTerms:
    """The inputs of a price beside the film: the book, by its id too, the customer, and the moment (UTC)."""

    book_id: str
    book: PriceBook
    customer: Customer
    at: datetime


def read_price_terms(session: Session, account_id: str) -> PriceTerms:
    """Return by what a film of an account is priced now. Raises AppError `no_rate` where no book is in force."""
    moment = now(session)
    stored = book_at(session, moment)
    membership = stored.book.known_membership(membership_at(session, account_id, moment))
    left = allowance(session, account_id, stored.book, membership, moment)
    contract = contract_at(session, account_id, moment)
    customer = Customer(membership, contract, left.free_seconds, left.promotions)
    return PriceTerms(stored.id, stored.book, customer, moment)
