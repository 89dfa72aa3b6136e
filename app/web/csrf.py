"""Cross-site request forgery: check that a request that changes something comes from one of our own pages."""

import hashlib
import hmac
import secrets
from urllib.parse import urlsplit

from fastapi import Request

from app.errors import AppError
from app.web.sessions import cookie_name

# The hidden form field and the header that carry the session's token.
CSRF_FIELD = "csrf"
CSRF_HEADER = "x-csrf-token"


def new_csrf_token(session_token: str) -> str:
    """Return a CSRF token for the forms of one page: the secret of the session under a new mask, in hexadecimal.

    It is derived from the cookie and does not reveal it. Pages are compressed, and the size of a compressed page tells
    whether a guess in it equals the token beside it (BREACH). With a mask of its own, each page's token is random.
    """
    secret = _secret(session_token)
    mask = secrets.token_bytes(len(secret))
    return (mask + _xor(mask, secret)).hex()


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
    if not _is_token_of(session_token, csrf_token):
        raise AppError("forbidden", "This form belongs to an older session. Reload the page and send it again.")


def _is_token_of(session_token: str, csrf_token: str) -> bool:
    """Whether a CSRF token is one of this session.

    A token without a mask is right too: pages that were opened before an upgrade have one.
    """
    try:
        parts = bytes.fromhex(csrf_token)
    except ValueError:
        return False
    secret = _secret(session_token)
    if len(parts) == 2 * len(secret):
        parts = _xor(parts[: len(secret)], parts[len(secret) :])
    return hmac.compare_digest(parts, secret)


def _secret(session_token: str) -> bytes:
    return hmac.new(session_token.encode(), b"forms of this session", hashlib.sha256).digest()[:20]


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


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
