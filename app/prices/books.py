"""Draft, edit, approve, schedule and withdraw price books; each action goes into the audit log."""

from datetime import datetime
from typing import Final

from sqlalchemy.orm import Session

from app.audit_log.actor import Actor
from app.audit_log.log import last_simulation, record_action
from app.clock import now
from app.db import new_id
from app.errors import AppError
from app.prices.find import book_by_id, newest_book
from app.prices.lifecycle import approve_document, edit_document, lock_documents, schedule_document, withdraw_document
from app.prices.parse_cache import book_refusal, parse_book_text
from app.prices.tables import PriceDocumentState, StoredBook
from app.roles import Role, require_role
from pricing.book import PriceBook
from pricing.check import check_examples
from pricing.schema import Problem

# The author wrote no particular book over: the draft is based on the newest one, whichever that is.
NEWEST: Final = "newest"


def draft_book(
    session: Session, actor: Actor, toml: str, *, note: str = "", based_on: str | None = NEWEST
) -> StoredBook:
    """Create a new book as a draft, based on the newest scheduled or published one.

    A draft may break its own worked examples; it cannot be approved before it keeps them.

    `actor`: the author, with the role `pricing_author`. `toml`: the whole book. `note`: why, for the approver.
    `based_on`: the id of the book from which the author wrote the text, None where there was none.

    Raises AppError `forbidden`; `conflict` where `based_on` is no longer the newest book, whose changes the text would
    undo; `invalid_price_book` with every problem.
    """
    require_role(actor, Role.PRICING_AUTHOR)
    base = newest_book(session)
    newest_id = None if base is None else base.id
    if based_on not in (NEWEST, newest_id):
        message = "Another price book was scheduled since you began. Open a new draft, which starts from that one."
        raise AppError("conflict", message, field="based_on", based_on=based_on, newest=newest_id)
    book = _read(toml, base)
    moment = now(session)
    stored = StoredBook(
        id=new_id("book"),
        toml=toml,
        content_hash=book.content_hash,
        state=PriceDocumentState.DRAFT,
        based_on=newest_id,
        note=note,
        author=actor.person,
        created_at=moment,
        edited_at=moment,
        sole_admin=False,
    )
    session.add(stored)
    record_action(session, actor, "book.drafted", stored.id, content_hash=book.content_hash, based_on=stored.based_on)
    return stored


def edit_book(
    session: Session, actor: Actor, book_id: str, toml: str, *, note: str | None = None, content_hash: str | None = None
) -> StoredBook:
    """Replace a draft's text; `based_on` stays. `content_hash`: that of the text that was edited, if known.

    Raises AppError `not_found`, `forbidden`, `conflict`, `invalid_price_book`.
    """
    stored = book_by_id(session, book_id)
    base = None if stored.based_on is None else book_by_id(session, stored.based_on)
    edited = _read(toml, base)
    edit_document(session, actor, stored, toml, edited.content_hash, note, read_hash=content_hash)
    return stored


def approve_book(session: Session, actor: Actor, book_id: str, *, content_hash: str) -> StoredBook:
    """Approve a draft that keeps its worked examples, as it was read (see `app.prices.lifecycle.approve_document`).

    The audit log records the number of the last simulation's entry for this text, if any.

    Raises AppError `not_found`, `forbidden`, `conflict`; `invalid_price_book` with the examples that fail.
    """
    stored = book_by_id(session, book_id)
    # Checked before anything is written; a text that was edited meanwhile has another hash and is refused below.
    failures = check_examples(stored.book)
    if failures:
        raise book_refusal([Problem(f"examples[{failure.index}]", str(failure)) for failure in failures])
    approve_document(session, actor, stored, content_hash, simulation=last_simulation(session, book_id, content_hash))
    return stored


def schedule_book(session: Session, actor: Actor, book_id: str, effective_at: datetime | None = None) -> StoredBook:
    """Publish an approved book from a moment in the future on (see `app.prices.lifecycle.schedule_document`).

    Raises AppError `not_found`, `forbidden`, `conflict`, `invalid_request`.
    """
    lock_documents(session)
    stored = book_by_id(session, book_id)
    schedule_document(session, actor, stored, newest_book(session), effective_at)
    return stored


def withdraw_book(session: Session, actor: Actor, book_id: str, *, reason: str) -> StoredBook:
    """Withdraw a book before it takes effect (see `app.prices.lifecycle.withdraw_document`).

    Raises AppError `not_found`, `forbidden`, `conflict`.
    """
    lock_documents(session)
    stored = book_by_id(session, book_id)
    withdraw_document(session, actor, stored, newest_book(session), reason)
    return stored


def _read(toml: str, base: StoredBook | None) -> PriceBook:
    book = parse_book_text(toml)
    if base is None:
        if book.based_on is not None:
            raise book_refusal([Problem("based_on", "names a book, but this would be the first one")])
        return book
    if book.currency != base.book.currency:
        raise book_refusal([Problem("currency", f"must stay {base.book.currency}, in which wallets are kept")])
    if book.based_on not in (None, base.id, base.content_hash, base.book.name):
        raise AppError(
            "invalid_price_book",
            f"The text says that it is based on {book.based_on!r}; the newest book is {base.book.name!r}.",
            field="based_on",
            based_on=book.based_on,
            allowed=[base.book.name, base.content_hash, base.id],
        )
    return book
