"""The documentation of the API: guides from Markdown, the reference by group, and a page to try calls."""

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from threading import Lock
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response

from app.errors import ERROR_CODES, not_found
from app.etags import matches_etag
from app.events.types import EVENT_TYPES
from app.settings import get_settings
from app.web.auth import MaybeVisitor, Visitor
from app.web.language import DEFAULT, gettext, in_language, language, translate
from app.web.markdown import RenderedMarkdown, render_markdown
from app.web.reference import Operation, OperationGroup, operation_groups, operations_of, without_admin
from app.web.render import page
from app.web.sentences import sentence_text

router = APIRouter(prefix="/docs", include_in_schema=False)

GUIDES = ("quickstart", "pricing", "webhooks", "errors", "idempotency", "test-mode", "sdks")
# The base URL in the files; pages show that of this service.
WRITTEN_BASE = "http://127.0.0.1:8000"
_lock = Lock()


@dataclass(frozen=True)
class Guide:
    """One guide, rendered."""

    name: str
    text: RenderedMarkdown


@dataclass(frozen=True)
class DocumentFile:
    """An OpenAPI document as it is sent."""

    body: bytes
    etag: str

    @classmethod
    def of(cls, document: dict[str, Any]) -> "DocumentFile":
        """Return the JSON of a document, and its ETag."""
        body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
        return cls(body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')


def guide_source(name: str) -> str:
    """Return the Markdown of a guide in the request's language, with its tables and the base URL of this service."""
    folder = files("app.web").joinpath("guides")
    if language() != DEFAULT:
        folder = folder.joinpath(language())
    text = folder.joinpath(f"{name}.md").read_text(encoding="utf-8")
    columns = (gettext("Code"), gettext("HTTP status"), gettext("Meaning"))
    codes = [f"| `{code}` | {status} | {sentence_text(meaning)} |" for code, (status, meaning) in ERROR_CODES.items()]
    text = text.replace("{error codes}", "\n".join((f"| {' | '.join(columns)} |", "|---|---|---|", *codes)))
    events = [f"| `{type_}` | {translate(meaning)} |" for type_, meaning in EVENT_TYPES.items()]
    text = text.replace("{event types}", "\n".join(events))
    return text.replace(WRITTEN_BASE, get_settings().base_url())


@lru_cache(maxsize=16)
def _guides(base: str, text_language: str) -> dict[str, Guide]:
    """Return the guides of a language by name, in order. The base URL and the language are what they change with.

    Headings have the anchors of the English guide, by their position.
    """
    with in_language(text_language):
        sources = {name: guide_source(name) for name in GUIDES}
    if text_language == DEFAULT:
        return {name: Guide(name, render_markdown(source)) for name, source in sources.items()}
    english = _guides(base, DEFAULT)
    return {name: Guide(name, render_markdown(source, english[name].text.anchors)) for name, source in sources.items()}


def guides() -> dict[str, Guide]:
    """Return the guides in the request's language by name, in order."""
    return _guides(get_settings().base_url(), language())


@router.get("")
def show_overview(request: Request, visitor: MaybeVisitor) -> Response:
    """Show what the documentation has."""
    return _page(request, "docs/overview.html", title=gettext("Documentation"), base=get_settings().base_url())


@router.get("/openapi.json")
def send_document(request: Request, visitor: MaybeVisitor) -> Response:
    """Send the OpenAPI document; without the operations of operators, except to admins.

    Answers 304 without a body to a client that has it.
    """
    document = _documents(request.app)[_is_admin(visitor)]
    headers = {"cache-control": "private, no-cache", "vary": "cookie", "etag": document.etag}
    if matches_etag(request.headers.get("if-none-match", ""), document.etag):
        return Response(status_code=304, headers=headers)
    return Response(document.body, media_type="application/json", headers=headers)


@router.get("/explorer")
def show_explorer(request: Request, visitor: MaybeVisitor) -> Response:
    """Show a page on which calls can be tried with a key, which only this page holds."""
    return page(request, "docs/explorer.html", title=gettext("Try calls"), document="/docs/openapi.json")


@router.get("/api")
def show_reference(request: Request, visitor: MaybeVisitor) -> Response:
    """Show the operations of the API by group."""
    groups = _groups(request, visitor)
    context: dict[str, Any] = {"groups": groups, "base": get_settings().base_url()}
    return _page(request, "docs/reference.html", title=gettext("API reference"), **context)


@router.get("/api/{name}")
def show_group(request: Request, visitor: MaybeVisitor, name: str) -> Response:
    """Show the operations of one group. Raises AppError `not_found`, also for what the visitor may not see."""
    groups = _groups(request, visitor)
    group = next((each for each in groups if each.name == name), None)
    if group is None:
        raise not_found("page", name)
    return _page(
        request,
        "docs/group.html",
        title=translate(group.title),
        groups=groups,
        group=group,
        operations=_operations(request.app, group.tag),
    )


@router.get("/{name}")
def show_guide(request: Request, visitor: MaybeVisitor, name: str) -> Response:
    """Show one guide. Raises AppError `not_found`."""
    guide = guides().get(name)
    if guide is None:
        raise not_found("page", name)
    return _page(request, "docs/guide.html", title=guide.text.title, guide=guide)


def _page(request: Request, template: str, **context: Any) -> Response:
    return page(request, template, guides=guides(), **context)


def _groups(request: Request, visitor: Visitor | None) -> tuple[OperationGroup, ...]:
    """Return the groups that the visitor may see: those of operators for admins only."""
    groups: tuple[OperationGroup, ...] | None = getattr(request.app.state, "operation_groups", None)
    if groups is None:
        groups = request.app.state.operation_groups = operation_groups(request.app.routes)
    return tuple(each for each in groups if _is_admin(visitor) or not each.is_admin)


def _documents(app: FastAPI) -> dict[bool, DocumentFile]:
    """Return the OpenAPI document by whether it is for admins; both are made once for each process."""
    with _lock:
        if not hasattr(app.state, "document_files"):
            document = app.openapi()
            app.state.document_files = {
                False: DocumentFile.of(without_admin(document)),
                True: DocumentFile.of(document),
            }
        documents: dict[bool, DocumentFile] = app.state.document_files
        return documents


def _operations(app: FastAPI, tag: str) -> tuple[Operation, ...]:
    """Return the operations of a tag; they are made once for each process."""
    with _lock:
        if not hasattr(app.state, "operations"):
            app.state.operations = {}
        operations: dict[str, tuple[Operation, ...]] = app.state.operations
        if tag not in operations:
            operations[tag] = operations_of(app.state.document_of_tag(tag), get_settings().base_url())
        return operations[tag]


def _is_admin(visitor: Visitor | None) -> bool:
    return visitor is not None and visitor.is_admin
