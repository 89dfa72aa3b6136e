"""Render Jinja templates, and build the responses of page routes: pages, fragments, downloads, redirects."""

import csv
import io
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from app.errors import AppError
from app.reports.statement_csv import inert_cell
from app.web.formats import FILTERS
from app.web.language import LANGUAGE_TAGS, LANGUAGES, language, language_for, translate, translate_count
from app.web.script_texts import script_texts
from app.web.sentences import sentence, sentence_text
from app.web.static_files import static_url

THEMES = ("auto", "light", "dark")
THEME_COOKIE = "cinemeter_theme"


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Return the template environment. Undefined names are errors; values are HTML-escaped."""
    env = Environment(
        loader=PackageLoader("app.web", "templates"),
        autoescape=True,
        extensions=["jinja2.ext.i18n"],
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters.update(FILTERS)
    env.filters |= {"sentence": sentence, "sentence_text": sentence_text}
    env.globals["static"] = static_url
    # Texts of catalogues may have markup, as those of templates do; values in them are escaped.
    env.install_gettext_callables(translate, translate_count, newstyle=True)  # type: ignore[attr-defined]
    return env


def render(request: Request, template: str, /, **context: Any) -> str:
    """Render a template in the request's language.

    Every template gets the visitor (`me`), time zone, language, CSRF token, path, request id, theme, and the count of
    the inbox.
    """
    visitor = getattr(request.state, "visitor", None)
    theme = request.cookies.get(THEME_COOKIE, "auto")
    with language_for(request):
        name = language()
        return (
            environment()
            .get_template(template)
            .render(
                {
                    "me": visitor,
                    "zone": visitor.zone if visitor else "UTC",
                    "language": name,
                    "language_tag": LANGUAGE_TAGS[name],
                    "language_tags": LANGUAGE_TAGS,
                    "languages": LANGUAGES,
                    "script_texts": script_texts(),
                    "csrf": visitor.csrf if visitor else "",
                    "path": request.url.path,
                    "request_id": getattr(request.state, "request_id", ""),
                    "theme": theme if theme in THEMES else "auto",
                    "inbox_count": getattr(request.state, "inbox_count", int),
                    "review_count": getattr(request.state, "review_count", int),
                    **context,
                }
            )
        )


def page(request: Request, template: str, /, *, status: int = 200, **context: Any) -> Response:
    """Return a page. Pages show private figures, so no cache may store them.

    An `error` in the context that says when to try again gives the response that header, as at the API.
    """
    body = render(request, template, **context)
    headers = {"cache-control": "private, no-store"}
    error = context.get("error")
    if isinstance(error, AppError) and "retry_after" in error.facts:
        headers["retry-after"] = str(error.facts["retry_after"])
    return HTMLResponse(body, status_code=status, headers=headers)


def download_csv(name: str, columns: Sequence[str], rows: Iterable[Iterable[object]]) -> Response:
    """Return a table as a CSV file (RFC 4180) that spreadsheets know to be UTF-8, and take no cell of for a formula."""
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(columns)
    table.writerows([inert_cell(cell) for cell in row] for row in rows)
    return download(("\ufeff" + text.getvalue()).encode(), name, "text/csv; charset=utf-8")


def download(body: bytes, name: str, media_type: str) -> Response:
    """Return a file download with a file name."""
    headers = {"content-disposition": f'attachment; filename="{name}"', "cache-control": "private, no-store"}
    return Response(body, media_type=media_type, headers=headers)


def is_htmx(request: Request) -> bool:
    """Return whether htmx sent the request: it expects a fragment, and follows a header instead of a redirect."""
    return request.headers.get("hx-request") == "true" and request.headers.get("hx-boosted") != "true"


def redirect(request: Request, path: str) -> Response:
    """Redirect the browser after a form was accepted, so that a reload does not submit it again."""
    # Header values are ASCII, but a visitor's path may hold any character. Existing escapes are kept.
    location = quote(path, safe="/?#[]@!$&'()*+,;=:%", errors="replace")
    if is_htmx(request):
        return Response(status_code=204, headers={"hx-redirect": location})
    return Response(status_code=303, headers={"location": location})
