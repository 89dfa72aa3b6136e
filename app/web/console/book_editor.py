"""The editor of price books: a form and its TOML text are two views of one draft, with examples and changes beside."""

import tomllib
from datetime import timedelta
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session
from starlette.datastructures import FormData

from app.accounts.memberships import count_holders
from app.audit_log.actor import Actor
from app.clock import now
from app.errors import AppError
from app.prices.books import draft_book, edit_book
from app.prices.find import book_by_id, newest_book
from app.prices.tables import StoredBook
from app.reports.simulation import simulate_book
from app.web.auth import AdminDep, AuthorDep, LongFormDep, SessionDep, Visitor, text_of
from app.web.console.book_form import (
    DraftForm,
    FixedIds,
    orphans_of,
    read_draft,
    rows_of,
    show_fields,
    with_new_amounts,
    with_row,
    without_orphans,
    without_row,
)
from app.web.console.draft_preview import preview_book
from app.web.console.simulation import show_figures
from app.web.language import gettext, gettext_noop
from app.web.render import page, redirect
from pricing.book import parse_book
from pricing.schema import BookError
from pricing.toml_edit import TomlEditError, TomlText

router = APIRouter(prefix="/admin/price-books", include_in_schema=False)

SIMULATED = timedelta(days=30)
OPTION_NAMES = {"": gettext_noop("All"), "true": gettext_noop("With sound"), "false": gettext_noop("Without sound")}


class Editor:
    """One request to the editor: a new book, or a stored draft, with the text and the form as they were submitted."""

    def __init__(self, request: Request, session: Session, visitor: Visitor, stored: StoredBook | None) -> None:
        self.request, self.session, self.visitor, self.stored = request, session, visitor, stored
        base = newest_book(session) if stored is None else None
        self.base = stored.based_on if stored else base.id if base else None
        self.text = stored.toml if stored else base.toml if base else ""
        self.note = stored.note if stored else ""
        self.content_hash = stored.content_hash if stored else ""
        self.view = "form"
        self.opened = ""
        self.draft: DraftForm | None = _draft(self.text)
        self.extra: dict[str, Any] = {}

    def read(self, form: FormData) -> None:
        """Read a submitted form: its text, and the fields of the form view."""
        self.text = str(form.get("toml") or "").replace("\r\n", "\n")
        self.note = text_of(form, "note")
        # What the page was opened with: the text was written over that, and not over what is there by now.
        self.base = text_of(form, "base") or None
        self.content_hash = text_of(form, "content_hash")
        self.view = "form" if text_of(form, "view") == "form" else "toml"
        self.draft = _draft(self.text)
        if self.draft and self.view == "form":
            self.draft = read_draft(self.draft.toml, form, self.visitor.zone, self._fixed_ids())
            self.text = self.draft.toml.text

    def change(self, action: str) -> None:
        """Carry out a button that changes the draft or its view. Raises AppError `invalid_request`."""
        verb, _, rest = action.partition(":")
        try:
            if verb == "tab":
                self.view = "toml" if rest == "toml" or self.draft is None else "form"
            elif verb == "simulate":
                self._simulate()
            elif verb == "accept":
                self._set(with_new_amounts(TomlText(self.text), parse_book(self.text)))
            elif verb == "prune":
                self._set(without_orphans(TomlText(self.text)))
            elif verb == "add":
                self._set(with_row(TomlText(self.text), rest))
                self.opened = rest
            elif verb == "remove":
                table, _, index = rest.partition(":")
                self._set(without_row(TomlText(self.text), table, int(index)))
                self.opened = table
            elif verb != "check":
                raise AppError("invalid_request", "Unknown action.")
        except (TomlEditError, BookError, tomllib.TOMLDecodeError, ValueError, KeyError):
            raise AppError("invalid_request", "This cannot be done in the form. Change the TOML text.") from None

    def save(self) -> str:
        """Save the draft and return the path of its page. Raises AppError."""
        actor = Actor.of(self.visitor.caller)
        with self.session.begin_nested():
            if self.stored is None:
                book = draft_book(self.session, actor, self.text, note=self.note, based_on=self.base)
            else:
                words = {"note": self.note, "content_hash": self.content_hash}
                book = edit_book(self.session, actor, self.stored.id, self.text, **words)
        return f"/admin/price-books/{book.id}"

    def context(self, *, live: bool = False) -> dict[str, Any]:
        """Return what the templates show. `live` adds what replaces parts of the page outside the preview."""
        zone = self.visitor.zone
        preview = preview_book(self.session, self.text, self.base, fields=self.draft is not None)
        problems = {each["path"]: each["message"] for each in preview["problems"] if each["path"]}
        fields = show_fields(self.draft, problems, zone, self._fixed_ids()) if self.draft else {"all": []}
        wrong = [each for each in fields["all"] if self.draft and each["path"] in self.draft.errors]
        if wrong:
            # The text still has the old values: what follows from them would be taken for that of the new ones.
            preview |= {"examples": [], "changes": [], "amounts": [], "figures": []}
        failing = [each for each in preview["examples"] if each["outcome"]]
        return {
            **preview,
            "action": f"/admin/price-books/{self.stored.id}/edit" if self.stored else "/admin/price-books",
            "book_id": self.stored.id if self.stored else "",
            "view": self.view if self.draft else "toml",
            "toml": self.text,
            "note": self.note,
            "content_hash": self.content_hash,
            "fields": fields,
            "wrong_fields": wrong,
            "orphans": bool(self.draft and orphans_of(self.draft.toml)),
            "holders": {} if live else self._holders(),
            "bad_lines": {each["line"] for each in (*preview["problems"], *failing)},
            "opened": self.opened,
            "option_names": OPTION_NAMES,
            "live": live,
            "error": None,
            "simulation": None,
            "unpriced": False,
            **self.extra,
        }

    def answer(self, *, error: AppError | None = None, status: int = 200) -> Response:
        """Return the page of the editor."""
        title = gettext("Edit the draft") if self.stored else gettext("New price book")
        context = self.context() | {"error": error}
        if error is not None:
            status = error.status
        return page(self.request, "console/book_edit.html", status=status, title=title, **context)

    def _fixed_ids(self) -> FixedIds:
        if self.base is None:
            return {}
        book = book_by_id(self.session, self.base).book
        return {"memberships": set(book.memberships), "service_tiers": set(book.service_tiers)}

    def _holders(self) -> dict[str, int]:
        """Return how many accounts have each membership of the draft."""
        names = [str(row.get("id")) for row in rows_of(self.draft.toml, "memberships")] if self.draft else []
        return count_holders(self.session, names, now(self.session))

    def _set(self, toml: TomlText) -> None:
        self.text, self.draft = toml.text, DraftForm(toml)

    def _simulate(self) -> None:
        if self.draft and self.draft.errors:
            self.extra["unpriced"] = True
            return
        try:
            book = parse_book(self.text)
        except BookError:
            self.extra["unpriced"] = True
            return
        moment = now(self.session)
        simulation = simulate_book(self.session, book, since=moment - SIMULATED, until=moment)
        self.extra["simulation"] = show_figures(self.session, simulation)


@router.get("/new")
def show_new(request: Request, session: SessionDep, visitor: AuthorDep) -> Response:
    """Show the editor for a new draft, filled with the newest book."""
    return Editor(request, session, visitor, None).answer()


@router.post("")
def post_draft(request: Request, session: SessionDep, visitor: AuthorDep, form: LongFormDep) -> Response:
    """Save a new draft, or carry out another button of its editor."""
    return _post(Editor(request, session, visitor, None), form)


@router.post("/check")
def show_check(request: Request, session: SessionDep, visitor: AdminDep, form: LongFormDep) -> Response:
    """Return the preview beside the draft, and what changes in the form: prices and notes at fields."""
    editor = Editor(request, session, visitor, None)
    editor.read(form)
    return page(request, "console/book_check.html", **editor.context(live=True))


@router.get("/{book_id}/edit")
def show_edit(request: Request, session: SessionDep, visitor: AuthorDep, book_id: str) -> Response:
    """Show the editor of a draft."""
    return Editor(request, session, visitor, book_by_id(session, book_id)).answer()


@router.post("/{book_id}/edit")
def post_edit(request: Request, session: SessionDep, visitor: AuthorDep, form: LongFormDep, book_id: str) -> Response:
    """Replace a draft's text, or carry out another button of its editor."""
    return _post(Editor(request, session, visitor, book_by_id(session, book_id)), form)


def _post(editor: Editor, form: FormData) -> Response:
    editor.read(form)
    action = text_of(form, "then") or "save"
    if editor.draft and editor.draft.errors and action not in ("check", "simulate"):
        # What was typed is not in the text yet, so that no button may carry the text away.
        return editor.answer(status=422)
    try:
        if action == "save":
            return redirect(editor.request, editor.save())
        editor.change(action)
    except AppError as error:
        return editor.answer(error=error)
    return editor.answer()


def _draft(text: str) -> DraftForm | None:
    """Return a text as a draft that fields can show, or None where it is not TOML."""
    try:
        return DraftForm(TomlText(text))
    except tomllib.TOMLDecodeError:
        return None
