"""The first book of a new database: the default one that ships with Cinemeter, in force at once."""

from sqlalchemy.orm import Session

from app.audit_log.actor import SYSTEM_ACTOR
from app.prices.books import approve_book, draft_book, schedule_book
from app.prices.find import newest_book
from app.prices.lifecycle import lock_documents
from app.prices.tables import StoredBook
from pricing.books import read_shipped


def seed_book(session: Session, toml: str | None = None) -> StoredBook:
    """Put the first book in force (default: the shipped one); where there is one already, return the newest.

    Nobody exists yet to approve it, so the system approves it alone, and the audit log says so.
    """
    lock_documents(session)
    newest = newest_book(session)
    if newest is not None:
        return newest
    stored = draft_book(session, SYSTEM_ACTOR, read_shipped() if toml is None else toml, note="the first book")
    approve_book(session, SYSTEM_ACTOR, stored.id, content_hash=stored.content_hash)
    return schedule_book(session, SYSTEM_ACTOR, stored.id)
