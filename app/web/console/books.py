"""Price books: list, compare, approve, schedule, withdraw, history. `book_editor.py` writes them."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session

from app.audit_log.actor import Actor
from app.audit_log.log import list_entries
from app.audit_log.values import shown_facts
from app.clock import now
from app.errors import AppError
from app.prices.books import approve_book, schedule_book, withdraw_book
from app.prices.find import book_at, book_by_id, list_books
from app.prices.lifecycle import approvers
from app.prices.tables import PriceDocumentState, StoredBook
from app.reports.display_names import display_names
from app.roles import Role
from app.web.auth import AdminDep, FormDep, SessionDep, Visitor, text_of
from app.web.console.draft_preview import preview_book
from app.web.console.schedule_review import PriceChange, ScheduleReview, review_page
from app.web.forms import parse_local_time, to_local
from app.web.language import gettext, title_text
from app.web.render import page, redirect

router = APIRouter(prefix="/admin/price-books", include_in_schema=False)

TONES = {"draft": "info", "approved": "busy", "scheduled": "busy", "published": "good", "withdrawn": ""}


@router.get("")
def show_books(request: Request, session: SessionDep, visitor: AdminDep) -> Response:
    """Show all price books and mark the one in force."""
    moment = now(session)
    in_force = book_at(session, moment)
    books = list_books(session)
    names = display_names(session, [each for book in books for each in (book.author, book.approver)])
    context: dict[str, Any] = {
        "books": [_row(book, names, moment) for book in books],
        "in_force": in_force.id,
        "tones": TONES,
        "may_write": Role.PRICING_AUTHOR in visitor.roles,
    }
    return page(request, "console/books.html", title=gettext("Price books"), **context)


@router.get("/{book_id}")
def show_book(request: Request, session: SessionDep, visitor: AdminDep, book_id: str) -> Response:
    """Show one book: state, changes, history and possible actions."""
    return _book(request, session, visitor, book_id)


@router.post("/{book_id}/approval")
def post_approval(request: Request, session: SessionDep, visitor: AdminDep, form: FormDep, book_id: str) -> Response:
    """Approve a draft; the submitted content hash must be that of the text that was shown."""
    try:
        with session.begin_nested():
            actor = Actor.of(visitor.caller)
            approve_book(session, actor, book_id, content_hash=text_of(form, "content_hash"))
    except AppError as error:
        return _book(request, session, visitor, book_id, error=error)
    return redirect(request, f"/admin/price-books/{book_id}")


@router.post("/{book_id}/publication")
def post_publication(request: Request, session: SessionDep, visitor: AdminDep, form: FormDep, book_id: str) -> Response:
    """Schedule an approved book for a time in the future: the first form leads to the review page, its form does it."""
    try:
        with session.begin_nested() as change:
            at = parse_local_time(text_of(form, "effective_at"), visitor.zone, "effective_at")
            schedule_book(session, Actor.of(visitor.caller), book_id, at)
            if not text_of(form, "sure"):
                change.rollback()
    except AppError as error:
        return _book(request, session, visitor, book_id, error=error)
    if not text_of(form, "sure"):
        return _review(request, session, book_id, at, text_of(form, "effective_at"))
    return redirect(request, f"/admin/price-books/{book_id}")


@router.post("/{book_id}/withdrawal")
def post_withdrawal(request: Request, session: SessionDep, visitor: AdminDep, form: FormDep, book_id: str) -> Response:
    """Withdraw a book before it takes effect."""
    try:
        with session.begin_nested():
            withdraw_book(session, Actor.of(visitor.caller), book_id, reason=text_of(form, "reason"))
    except AppError as error:
        return _book(request, session, visitor, book_id, error=error)
    return redirect(request, f"/admin/price-books/{book_id}")


def _review(request: Request, session: Session, book_id: str, at: datetime, effective_at: str) -> Response:
    """Return the page that shows what a scheduled book changes, before it is scheduled."""
    book = book_by_id(session, book_id)
    figures = preview_book(session, book.toml, book.based_on, at=at)["figures"]
    changes = [PriceChange(each["what"], each["before"], each["after"], each["percent"]) for each in figures]
    back = f"/admin/price-books/{book_id}"
    review = ScheduleReview(gettext("Schedule price book"), at, "", changes, f"{back}/publication", back, effective_at)
    return review_page(request, review)


def _book(
    request: Request, session: Session, visitor: Visitor, book_id: str, *, error: AppError | None = None
) -> Response:
    book, moment = book_by_id(session, book_id), now(session)
    state = book.state_at(moment)
    entries = list_entries(session, subject=book_id, limit=20)
    facts = shown_facts(session, entries)
    names = display_names(session, [book.author, book.approver, *(entry.actor for entry in entries)])
    may_act = bool(visitor.roles & {Role.PRICING_AUTHOR, Role.PRICING_APPROVER})
    is_author = book.author == visitor.caller.person
    others = approvers(session) - {visitor.caller.person}
    context: dict[str, Any] = {
        "book": _row(book, names, moment),
        "toml": book.toml,
        "tones": TONES,
        "steps": _steps(book, state),
        "entries": [
            {"at": each.at, "action": each.act, "actor": names.get(each.actor, each.actor), "facts": facts[each.number]}
            for each in entries
        ],
        "may_edit": state is PriceDocumentState.DRAFT and is_author and Role.PRICING_AUTHOR in visitor.roles,
        "may_approve": state is PriceDocumentState.DRAFT
        and Role.PRICING_APPROVER in visitor.roles
        and (not is_author or not others),
        "waits_for_other": state is PriceDocumentState.DRAFT and is_author and bool(others),
        "may_schedule": state is PriceDocumentState.APPROVED and may_act,
        "may_withdraw": state not in (PriceDocumentState.PUBLISHED, PriceDocumentState.WITHDRAWN) and may_act,
        "soon": to_local(moment, visitor.zone, ahead_minutes=60),
        "error": error,
        "view": "",
        "wrong_fields": [],
        "orphans": False,
        "live": False,
        **preview_book(session, book.toml, book.based_on),
    }
    status = error.status if error else 200
    return page(request, "console/book.html", status=status, title=title_text(book.book.title), **context)


def _row(book: StoredBook, names: dict[str, str], moment: Any) -> dict[str, Any]:
    return {
        "id": book.id,
        "name": book.book.name,
        "title": title_text(book.book.title),
        "state": str(book.state_at(moment)),
        "note": book.note,
        "author": names.get(book.author, book.author),
        "approver": names.get(book.approver or "", book.approver),
        "sole_admin": book.sole_admin,
        "based_on": book.based_on,
        "content_hash": book.content_hash,
        "created_at": book.created_at,
        "effective_at": book.effective_at,
        "withdrawn_at": book.withdrawn_at,
    }


def _steps(book: StoredBook, state: PriceDocumentState) -> list[dict[str, Any]]:
    """Return the lifecycle of a book from draft to published, with its current step."""
    states = [
        PriceDocumentState.DRAFT,
        PriceDocumentState.APPROVED,
        PriceDocumentState.SCHEDULED,
        PriceDocumentState.PUBLISHED,
    ]
    if state is PriceDocumentState.WITHDRAWN:
        reached = 1 if book.approver is None else 2 if book.effective_at is None else 3
        states = [*states[:reached], PriceDocumentState.WITHDRAWN]
    current = states.index(state)
    return [
        {"label": str(step), "done": index <= current, "is_current": index == current}
        for index, step in enumerate(states)
    ]
