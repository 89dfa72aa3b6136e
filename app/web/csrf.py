"""Was a form sent from one of our own pages? Asked of every request that changes something."""

import hmac
from urllib.parse import urlsplit

from fastapi import Request

from app.errors import AppError
from app.web.sessions import cookie_name, csrf_of

FIELD = "csrf"
HEADER = "x-csrf-token"


def require_csrf(request: Request, given: str | None) -> None:
    """Refuse a request that another site has made a browser send.

    The browser's own word counts first (`Sec-Fetch-Site`, else `Origin`). Beside it, a signed-in browser must send the
    word of its session (`given`, or the header), so that one header that a proxy strips opens nothing.

    Raises:
        AppError: `forbidden`.
    """
    if not _from_here(request):
        raise AppError("forbidden", "This form was sent from another site; open the page here and send it again.")
    token = request.cookies.get(cookie_name())
    if token is None:
        return
    word = request.headers.get(HEADER) or given or ""
    if not hmac.compare_digest(word.encode(), csrf_of(token).encode()):
        raise AppError("forbidden", "This form belongs to an older session; reload the page and send it again.")


def _from_here(request: Request) -> bool:
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin")
    return origin is not None and urlsplit(origin).netloc == request.headers.get("host")


def safe_path(path: str | None, default: str) -> str:
    """Return a path of ours to go to next; anything that could lead to another site becomes the default."""
    if not path or not path.startswith("/") or path.startswith(("//", "/\\")) or any(sign < " " for sign in path):
        return default
    return path
