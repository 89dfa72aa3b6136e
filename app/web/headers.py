"""Security headers of every page: content security policy, no framing, no MIME sniffing, same-origin referrer."""

from functools import lru_cache
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.storage import get_storage
from app.web.language import LANGUAGE_TAGS, language, language_for
from app.web.sessions import is_secure


class PageHeaders:
    """ASGI middleware that adds the headers to HTML responses, and knows the language in which a request is answered.

    It is plain ASGI so that streams stay streams.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if headers.get("content-type", "").startswith("text/html"):
                    headers.update(page_headers())
                    headers["content-language"] = LANGUAGE_TAGS[language()]
                    # A member's own language is found by the cookie of the session.
                    headers.add_vary_header("Accept-Language, Cookie")
            await send(message)

        with language_for(HTTPConnection(scope)):
            await self.app(scope, receive, send_with_headers)


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
