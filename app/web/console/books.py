"""Price books: write a draft with its examples beside it, compare, approve, schedule, withdraw, look back."""

from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session

from app.audit_log.actor import Actor
from app.audit_log.log import list_entries
from app.clock import now
from app.errors import AppError
from app.prices.books import approve_book, draft_book, edit_book, schedule_book, withdraw_book
from app.prices.find import book_at, book_by_id, list_books, newest_book
from app.prices.lifecycle import approvers
from app.prices.tables import PriceDocumentState, StoredBook
from app.roles import Role
from app.web.auth import AdminDep, AuthorDep, FormDep, SessionDep, Visitor, text_of
from app.web.console.display_names import names_of
from app.web.console.draft_preview import check_text
from app.web.forms import parse_local_time, to_local
from app.web.render import go, page

router = APIRouter(prefix="/admin/price-books", include_in_schema=False)

TONES = {"draft": "info", "approved": "busy", "scheduled": "busy", "published": "good", "withdrawn": ""}


@router.get("")
def show_books(request: Request, session: SessionDep, visitor: AdminDep) -> Response:
    """Show all books, the one in force marked."""
    moment = now(session)
    in_force = book_at(session, moment)
    books = list_books(session)
    names = names_of(session, [each for book in books for each in (book.author, book.approver)])
    context: dict[str, Any] = {
        "books": [_row(book, names, moment) for book in books],
        "in_force": in_force.id,
        "tones": TONES,
        "may_write": Role.PRICING_AUTHOR in visitor.roles,
    }
    return page(request, "console/books.html", title="Price books", **context)


@router.get("/new")
def show_new(request: Request, session: SessionDep, visitor: AuthorDep) -> Response:
    """Show the form for a new draft, which begins as the newest book."""
    base = newest_book(session)
    toml = base.toml if base else ""
    context: dict[str, Any] = {"book": None, "toml": toml, "note": "", "error": None}
    checked = check_text(session, toml, base.id if base else None)
    return page(request, "console/book_edit.html", title="New price book", **context, **checked)


@router.post("")
def post_draft(request: Request, session: SessionDep, visitor: AuthorDep, form: FormDep) -> Response:
    """Write a new draft down."""
    toml, note = _text(form), text_of(form, "note")
    try:
        with session.begin_nested():
            book = draft_book(session, Actor.of(visitor.caller), toml, note=note)
    except AppError as error:
        base = newest_book(session)
        checked = check_text(session, toml, base.id if base else None)
        context: dict[str, Any] = {"book": None, "toml": toml, "note": note, "error": error}
        return page(
            request, "console/book_edit.html", status=error.status, title="New price book", **context, **checked
        )
    return go(request, f"/admin/price-books/{book.id}")


@router.post("/check")
def show_check(request: Request, session: SessionDep, visitor: AdminDep, form: FormDep) -> Response:
    """Return what stands beside the text while it is written: problems, examples, and what changes."""
    return page(request, "console/book_check.html", **check_text(session, _text(form), text_of(form, "base") or None))


@router.get("/{book_id}")
def show_book(request: Request, session: SessionDep, visitor: AdminDep, book_id: str) -> Response:
    """Show one book: where it stands, what it changes, and what can be done with it."""
    return _book(request, session, visitor, book_id)


@router.get("/{book_id}/edit")
def show_edit(request: Request, session: SessionDep, visitor: AuthorDep, book_id: str) -> Response:
    """Show a draft's text, to be changed by its author."""
    book = book_by_id(session, book_id)
    context: dict[str, Any] = {
        "book": _row(book, {}, now(session)),
        "toml": book.toml,
        "note": book.note,
        "error": None,
    }
    checked = check_text(session, book.toml, book.based_on)
    return page(request, "console/book_edit.html", title="Edit the draft", **context, **checked)


@router.post("/{book_id}/edit")
def post_edit(request: Request, session: SessionDep, visitor: AuthorDep, form: FormDep, book_id: str) -> Response:
    """Replace a draft's text."""
    toml, note = _text(form), text_of(form, "note")
    try:
        with session.begin_nested():
            edit_book(session, Actor.of(visitor.caller), book_id, toml, note=note)
    except AppError as error:
        book = book_by_id(session, book_id)
        context: dict[str, Any] = {"book": _row(book, {}, now(session)), "toml": toml, "note": note, "error": error}
        checked = check_text(session, toml, book.based_on)
        return page(
            request, "console/book_edit.html", status=error.status, title="Edit the draft", **context, **checked
        )
    return go(request, f"/admin/price-books/{book_id}")


@router.post("/{book_id}/approval")
def post_approval(request: Request, session: SessionDep, visitor: AdminDep, form: FormDep, book_id: str) -> Response:
    """Approve a draft as it was read."""
    try:
        with session.begin_nested():
            actor = Actor.of(visitor.caller)
            approve_book(session, actor, book_id, content_hash=text_of(form, "content_hash"))
    except AppError as error:
        return _book(request, session, visitor, book_id, error=error)
    return go(request, f"/admin/price-books/{book_id}")


@router.post("/{book_id}/publication")
def post_publication(request: Request, session: SessionDep, visitor: AdminDep, form: FormDep, book_id: str) -> Response:
    """Schedule an approved book for a moment in the future."""
    try:
        with session.begin_nested():
            at = parse_local_time(text_of(form, "effective_at"), visitor.zone, "effective_at")
            schedule_book(session, Actor.of(visitor.caller), book_id, at)
    except AppError as error:
        return _book(request, session, visitor, book_id, error=error)
    return go(request, f"/admin/price-books/{book_id}")


@router.post("/{book_id}/withdrawal")
def post_withdrawal(request: Request, session: SessionDep, visitor: AdminDep, form: FormDep, book_id: str) -> Response:
    """Take a book back before it takes effect."""
    try:
        with session.begin_nested():
            withdraw_book(session, Actor.of(visitor.caller), book_id, reason=text_of(form, "reason"))
    except AppError as error:
        return _book(request, session, visitor, book_id, error=error)
    return go(request, f"/admin/price-books/{book_id}")


def _text(form: Any) -> str:
    """Return the TOML of a form with the line ends of files, not of browsers."""
    return str(form.get("toml") or "").replace("\r\n", "\n")


def _book(
    request: Request, session: Session, visitor: Visitor, book_id: str, *, error: AppError | None = None
) -> Response:
    book, moment = book_by_id(session, book_id), now(session)
    state = book.state_at(moment)
    entries = list_entries(session, subject=book_id, limit=20)
    names = names_of(session, [book.author, book.approver, *(entry.actor for entry in entries)])
    may_act = bool(visitor.roles & {Role.PRICING_AUTHOR, Role.PRICING_APPROVER})
    is_author = book.author == visitor.caller.person
    others = approvers(session) - {visitor.caller.person}
    context: dict[str, Any] = {
        "book": _row(book, names, moment),
        "toml": book.toml,
        "tones": TONES,
        "steps": _steps(book, state),
        "entries": [
            {"at": each.at, "act": each.act, "actor": names.get(each.actor, each.actor), "facts": each.facts}
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
        **check_text(session, book.toml, book.based_on),
    }
    status = error.status if error else 200
    return page(request, "console/book.html", status=status, title=book.book.title.en, **context)


def _row(book: StoredBook, names: dict[str, str], moment: Any) -> dict[str, Any]:
    return {
        "id": book.id,
        "name": book.book.name,
        "title": book.book.title.en,
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
    """Return the way of a book from draft to effect, with how far it has come."""
    way = [
        PriceDocumentState.DRAFT,
        PriceDocumentState.APPROVED,
        PriceDocumentState.SCHEDULED,
        PriceDocumentState.PUBLISHED,
    ]
    if state is PriceDocumentState.WITHDRAWN:
        reached = 1 if book.approver is None else 2 if book.effective_at is None else 3
        way = [*way[:reached], PriceDocumentState.WITHDRAWN]
    at = way.index(state)
    return [{"word": str(step), "done": place <= at, "is_now": place == at} for place, step in enumerate(way)]
