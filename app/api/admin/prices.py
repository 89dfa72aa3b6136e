"""Price book routes: draft, edit, diff, simulate, approve, schedule, withdraw, and read past books."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import AwareDatetime

from app.api.admin.access import AdminCaller, ApproverCaller, AuthorCaller, PricingCaller
from app.api.admin.price_documents import (
    ComparisonOut,
    PriceDocumentDetailOut,
    PriceDocumentOut,
    PriceDocumentPage,
    period_of,
    show_comparison,
    show_document,
    show_document_detail,
)
from app.api.admin.schemas import ApprovalIn, PeriodIn, PriceDocumentEditIn, PriceDocumentIn, ReasonIn, ScheduleIn
from app.audit_log.actor import Actor
from app.clock import now
from app.prices.books import approve_book, draft_book, edit_book, schedule_book, withdraw_book
from app.prices.compare import compare_book
from app.prices.find import book_at, book_by_id, list_books
from app.reports.simulation import simulate_stored
from app.request_session import SessionDep

router = APIRouter(prefix="/v1/admin/price_books", tags=["admin: prices"])

Against = Annotated[
    str | None, Query(max_length=64, description="Id of another book. Default: the book that it is based on.")
]


@router.get("")
def list_price_books(session: SessionDep, caller: AdminCaller) -> PriceDocumentPage:
    """List all price books: drafts first, then the latest to take effect first."""
    return PriceDocumentPage(data=[show_document(session, book) for book in list_books(session)])


@router.post("", status_code=201)
def draft_price_book(session: SessionDep, caller: AuthorCaller, body: PriceDocumentIn) -> PriceDocumentDetailOut:
    """Create a draft of a price book, based on the newest one."""
    return show_document_detail(session, draft_book(session, Actor.of(caller), body.toml, note=body.note))


@router.get("/in_force")
def get_price_book_in_force(
    session: SessionDep, caller: AdminCaller, at: Annotated[AwareDatetime | None, Query()] = None
) -> PriceDocumentDetailOut:
    """Return the price book in force at a given time, by default now."""
    moment: datetime = at or now(session)
    return show_document_detail(session, book_at(session, moment))


@router.get("/{book_id}")
def get_price_book(session: SessionDep, caller: AdminCaller, book_id: str) -> PriceDocumentDetailOut:
    """Return a price book with its text and its worked examples."""
    return show_document_detail(session, book_by_id(session, book_id))


@router.patch("/{book_id}")
def edit_price_book(
    session: SessionDep, caller: AuthorCaller, book_id: str, body: PriceDocumentEditIn
) -> PriceDocumentDetailOut:
    """Replace a draft's text. Only its author may do this."""
    return show_document_detail(session, edit_book(session, Actor.of(caller), book_id, body.toml, note=body.note))


@router.get("/{book_id}/diff")
def diff_price_book(session: SessionDep, caller: AdminCaller, book_id: str, against: Against = None) -> ComparisonOut:
    """Return what a price book changes, as sentences and as prices per second."""
    return show_comparison(compare_book(session, book_id, against))


@router.post("/{book_id}/simulate")
def simulate_price_book(session: SessionDep, caller: AdminCaller, book_id: str, body: PeriodIn) -> dict[str, Any]:
    """Compute what a price book would have charged for the jobs of a period, beside what was charged."""
    since, until = period_of(session, body)
    result = simulate_stored(session, Actor.of(caller), book_id, since=since, until=until)
    return {"object": "simulation", "since": since, "until": until, **result.content()}


@router.post("/{book_id}/approve")
def approve_price_book(session: SessionDep, caller: ApproverCaller, book_id: str, body: ApprovalIn) -> PriceDocumentOut:
    """Approve a draft by its content hash. Its author may not approve it."""
    return show_document(session, approve_book(session, Actor.of(caller), book_id, content_hash=body.content_hash))


@router.post("/{book_id}/schedule")
def schedule_price_book(session: SessionDep, caller: PricingCaller, book_id: str, body: ScheduleIn) -> PriceDocumentOut:
    """Schedule an approved price book for a time in the future. It applies to new quotes only."""
    return show_document(session, schedule_book(session, Actor.of(caller), book_id, body.effective_at))


@router.post("/{book_id}/withdraw")
def withdraw_price_book(session: SessionDep, caller: PricingCaller, book_id: str, body: ReasonIn) -> PriceDocumentOut:
    """Withdraw a price book before it takes effect."""
    return show_document(session, withdraw_book(session, Actor.of(caller), book_id, reason=body.reason))
