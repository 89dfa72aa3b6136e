"""Render templates: one environment, strict about what is undefined, and the page and fragment that routes return."""

from functools import lru_cache
from typing import Any
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from app.web.formats import FILTERS
from app.web.static_files import address

THEMES = ("auto", "light", "dark")
THEME_COOKIE = "cinemeter_theme"


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Return the template environment. What is undefined is an error; what is written is escaped."""
    env = Environment(
        loader=PackageLoader("app.web", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters.update(FILTERS)
    env.globals["static"] = address
    return env


def render(request: Request, template: str, /, **context: Any) -> str:
    """Return a template filled in. Every template knows who looks (`me`), where (`path`), and in which theme."""
    visitor = getattr(request.state, "visitor", None)
    theme = request.cookies.get(THEME_COOKIE, "auto")
    return (
        environment()
        .get_template(template)
        .render(
            {
                "me": visitor,
                "zone": visitor.zone if visitor else "UTC",
                "csrf": visitor.csrf if visitor else "",
                "path": request.url.path,
                "request_id": getattr(request.state, "request_id", ""),
                "theme": theme if theme in THEMES else "auto",
                **context,
            }
        )
    )


def page(request: Request, template: str, /, *, status: int = 200, **context: Any) -> Response:
    """Return a page. Pages show private figures, so no cache keeps them."""
    body = render(request, template, **context)
    return HTMLResponse(body, status_code=status, headers={"cache-control": "private, no-store"})


def download(body: bytes, name: str, media_type: str) -> Response:
    """Return a file to be kept on the visitor's machine under a name."""
    headers = {"content-disposition": f'attachment; filename="{name}"', "cache-control": "private, no-store"}
    return Response(body, media_type=media_type, headers=headers)


def is_htmx(request: Request) -> bool:
    """Say whether htmx asks, which wants a fragment and follows a header instead of a redirect."""
    return request.headers.get("hx-request") == "true" and request.headers.get("hx-boosted") != "true"


def go(request: Request, path: str) -> Response:
    """Send the browser to another page after a form was taken, so that a reload does not send it again."""
    # Header fields hold ASCII, and a path that a visitor came with may hold anything; what is escaped stays as it is.
    address = quote(path, safe="/?#[]@!$&'()*+,;=:%", errors="replace")
    if is_htmx(request):
        return Response(status_code=204, headers={"hx-redirect": address})
    return Response(status_code=303, headers={"location": address})
