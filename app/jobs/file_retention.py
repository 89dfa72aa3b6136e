"""How long an account's files are kept, and how many bytes they may have: by its membership at this moment."""

from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from app.accounts.memberships import membership_at
from app.clock import now
from app.prices.find import book_at
from pricing.rules import Membership


def retention_end(session: Session, account_id: str) -> datetime:
    """Return the moment at which a file that the account stores now will be deleted."""
    return now(session) + timedelta(days=_membership(session, account_id).retention_days)


def storage_quota(session: Session, account_id: str) -> int:
    """Return how many bytes the files that an account uploads may have together."""
    return _membership(session, account_id).storage_bytes


def _membership(session: Session, account_id: str) -> Membership:
    moment = now(session)
    book = book_at(session, moment).book
    return book.membership(book.known_membership(membership_at(session, account_id, moment)))
