"""Security headers of every page: content security policy, no framing, no MIME sniffing; and its compression."""

import gzip
import io
import re
import secrets
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.storage import get_storage
from app.web.language import LANGUAGE_TAGS, language, language_for
from app.web.sessions import is_secure

# A shorter page fits into one packet as it is.
_COMPRESSED_FROM = 1000
_LEVEL = 5
# The length of a compressed page may say something about its secrets to somebody who has it loaded again and again
# (BREACH). The CSRF token is masked on each page, sessions are SameSite=Lax, and up to so many random bytes hide the
# rest, as in Django since 4.2.
_PADDING_MAX = 100


class PageHeaders:
    """ASGI middleware that adds the headers to HTML responses, compresses them, and knows a request's language.

    It is plain ASGI so that streams stay streams.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        takes_gzip = accepts_gzip(Headers(scope=scope).get("accept-encoding", ""))
        held: list[Message] = []

        async def send_with_headers(message: Message) -> None:
            if held:
                start = held.pop()
                if takes_gzip and not message.get("more_body") and len(message.get("body", b"")) >= _COMPRESSED_FROM:
                    message["body"] = _compressed(message["body"])
                    headers = MutableHeaders(scope=start)
                    headers["content-encoding"] = "gzip"
                    headers["content-length"] = str(len(message["body"]))
                await send(start)
            elif message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if headers.get("content-type", "").startswith("text/html"):
                    headers.update(page_headers())
                    headers["content-language"] = LANGUAGE_TAGS[language()]
                    # A member's own language is found by the cookie of the session.
                    headers.add_vary_header("Accept-Language, Cookie, Accept-Encoding")
                    # It is sent with the body, which decides on its length.
                    held.append(message)
                    return
            await send(message)

        with language_for(HTTPConnection(scope)):
            await self.app(scope, receive, send_with_headers)


def accepts_gzip(header: str) -> bool:
    """Return whether a client that sends this Accept-Encoding takes gzip; it refuses what it gives the weight 0."""
    weights = {name.strip(): weight.strip() for name, _, weight in (each.partition(";") for each in header.split(","))}
    return "gzip" in weights and not re.fullmatch(r"q=0(\.0*)?", weights["gzip"])


def _compressed(body: bytes) -> bytes:
    """Return a page as gzip, with random bytes in its header."""
    target = io.BytesIO()
    padding = secrets.token_hex(_PADDING_MAX)[: secrets.randbelow(_PADDING_MAX + 1)]
    with gzip.GzipFile(filename=padding, mode="wb", fileobj=target, compresslevel=_LEVEL, mtime=0) as file:
        file.write(body)
    return target.getvalue()


@lru_cache(maxsize=1)
def page_headers() -> dict[str, str]:
    """Return the headers of a page. No inline scripts run; only stored films load from another origin."""
    media = " ".join(["'self'", "blob:", *media_origins()])
    policy = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "font-src": "'self'",
        "img-src": f"{media} data:",
        "media-src": media,
        "connect-src": "'self'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
    }
    headers = {
        "content-security-policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "referrer-policy": "same-origin",
        "cross-origin-opener-policy": "same-origin",
        "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    }
    if is_secure():
        headers["strict-transport-security"] = "max-age=31536000"
    return headers


def media_origins() -> list[str]:
    """Return the origins that film URLs redirect to: the object storage's, or none where this service serves them."""
    signed = get_storage().presign_get("films/any", seconds=60, filename="any.mp4", content_type="video/mp4")
    if signed is None:
        return []
    parts = urlsplit(signed)
    return [f"{parts.scheme}://{parts.netloc}"]
