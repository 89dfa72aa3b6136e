"""How long an account's files are kept: by its membership at the moment of storing them."""

from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from app.accounts.memberships import membership_at
from app.clock import now
from app.prices.find import book_at


def retention_end(session: Session, account_id: str) -> datetime:
    """Return the moment at which a file that the account stores now will be deleted."""
    moment = now(session)
    book = book_at(session, moment).book
    membership = book.membership(book.known_membership(membership_at(session, account_id, moment)))
    return moment + timedelta(days=membership.retention_days)
