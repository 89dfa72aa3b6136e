"""Cross-site request forgery: check that a request that changes something comes from one of our own pages."""

from urllib.parse import urlsplit

from fastapi import Request

from app.errors import AppError
from app.web.sessions import cookie_name, is_csrf_token

# The hidden form field and the header that carry the session's token.
CSRF_FIELD = "csrf"
CSRF_HEADER = "x-csrf-token"


def require_csrf(request: Request, form_token: str | None) -> None:
    """Refuse a request that another site made a browser send.

    The browser's own statement is checked first (`Sec-Fetch-Site`, else `Origin`). A signed-in browser must also send
    the session's CSRF token, in the header or as `form_token`: a proxy that strips one header must not open a hole.

    Raises AppError `forbidden` for a request from another site, and for a missing or wrong token.
    """
    if not _is_same_origin(request):
        raise AppError("forbidden", "This form was sent from another site. Open the page here and send it again.")
    session_token = request.cookies.get(cookie_name())
    if session_token is None:
        return
    csrf_token = request.headers.get(CSRF_HEADER) or form_token or ""
    if not is_csrf_token(csrf_token, session_token):
        raise AppError("forbidden", "This form belongs to an older session. Reload the page and send it again.")


def _is_same_origin(request: Request) -> bool:
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin")
    return origin is not None and urlsplit(origin).netloc == request.headers.get("host")


def safe_path(path: str | None, default: str) -> str:
    """Return a path on this site to redirect to; anything that could lead to another site becomes the default."""
    if not path or not path.startswith("/") or path.startswith(("//", "/\\")) or any(char < " " for char in path):
        return default
    return path
