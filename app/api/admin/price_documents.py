"""Price books and contracts in the format of the admin interface."""

from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.api.admin.schemas import PeriodIn
from app.clock import now
from app.prices.compare import Comparison
from app.prices.tables import PriceDocumentState, StoredBook, StoredContract
from pricing.check import check_examples
from pricing.diff import figure_text

DEFAULT_PERIOD = timedelta(days=30)


class PriceDocumentOut(BaseModel):
    """A price book or contract: its state, and who did what."""

    id: str
    object: Literal["price_book", "contract"]
    name: str
    state: PriceDocumentState
    content_hash: str
    currency: str
    account: str | None = None
    based_on: str | None
    note: str
    author: str
    created_at: datetime
    edited_at: datetime
    approver: str | None
    approved_at: datetime | None
    sole_admin: bool
    scheduled_by: str | None
    effective_at: datetime | None
    ends_at: datetime | None = None
    withdrawn_by: str | None
    withdrawn_at: datetime | None


class ExampleOut(BaseModel):
    """A worked example, with the computed total in `outcome` if it differs."""

    name: str
    total: str
    outcome: str | None


class PriceDocumentDetailOut(PriceDocumentOut):
    """A price book or contract with its text, and a book with its worked examples."""

    toml: str
    examples: list[ExampleOut] = []


class PriceDocumentPage(BaseModel):
    """All price books or contracts: drafts first, then the latest to take effect first."""

    object: Literal["list"] = "list"
    data: list[PriceDocumentOut]


class ComparisonOut(BaseModel):
    """The changes, as sentences and as prices per second."""

    against: str | None
    changes: list[dict[str, str | None]]
    figures: list[dict[str, Any]]


def show_document(session: Session, document: StoredBook | StoredContract) -> PriceDocumentOut:
    """Return a price book or contract in the list format."""
    return PriceDocumentOut(**_facts(session, document))


def show_document_detail(session: Session, document: StoredBook | StoredContract) -> PriceDocumentDetailOut:
    """Return a price book or contract with its text."""
    examples = []
    if isinstance(document, StoredBook):
        failures = {each.index: each.outcome for each in check_examples(document.book)}
        examples = [
            ExampleOut(name=each.name, total=each.total.text, outcome=failures.get(index))
            for index, each in enumerate(document.book.examples)
        ]
    return PriceDocumentDetailOut(**_facts(session, document), toml=document.toml, examples=examples)


def show_comparison(comparison: Comparison) -> ComparisonOut:
    """Return a comparison as plain values."""
    changes = [
        {"path": each.path, "before": each.before, "after": each.after, "percent": each.percent, "words": each.words}
        for each in comparison.changes
    ]
    figures = [
        {
            "membership": each.membership,
            **each.key.content(),
            "before": figure_text(each.before),
            "after": figure_text(each.after),
            "percent": each.percent,
        }
        for each in comparison.figures
    ]
    return ComparisonOut(against=comparison.against, changes=changes, figures=figures)


def period_of(session: Session, body: PeriodIn) -> tuple[datetime, datetime]:
    """Return the period of a simulation, by default the last 30 days."""
    until = body.until or now(session)
    return body.since or until - DEFAULT_PERIOD, until


def _facts(session: Session, document: StoredBook | StoredContract) -> dict[str, Any]:
    is_book = isinstance(document, StoredBook)
    parsed = document.book if isinstance(document, StoredBook) else document.contract
    own = {} if is_book else {"account": document.account_id, "ends_at": document.ends_at}  # type: ignore[union-attr]
    return own | {
        "id": document.id,
        "object": "price_book" if is_book else "contract",
        "name": parsed.name,
        "state": document.state_at(now(session)),
        "content_hash": document.content_hash,
        "currency": parsed.currency,
        "based_on": document.based_on,
        "note": document.note,
        "author": document.author,
        "created_at": document.created_at,
        "edited_at": document.edited_at,
        "approver": document.approver,
        "approved_at": document.approved_at,
        "sole_admin": document.sole_admin,
        "scheduled_by": document.scheduled_by,
        "effective_at": document.effective_at,
        "withdrawn_by": document.withdrawn_by,
        "withdrawn_at": document.withdrawn_at,
    }
