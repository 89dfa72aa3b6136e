"""Static files: read once at start, addressed by the hash of all of them, kept by browsers for good.

The stylesheets are one per part of a page; the browser gets them as one file, joined in the order below. That is all
the building there is.
"""

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from fastapi import APIRouter, Request, Response

from app.errors import AppError

STYLES = ("reset", "tokens", "base", "layout", "components", "forms", "tables", "charts", "studio", "film", "pages")
_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
    "jpg": "image/jpeg",
    "woff2": "font/woff2",
    "md": "text/plain; charset=utf-8",
    "txt": "text/plain; charset=utf-8",
}
_FOR_GOOD = "public, max-age=31536000, immutable"
_SQUEEZED = ("css", "js", "svg")

router = APIRouter(prefix="/static", include_in_schema=False)


@dataclass(frozen=True)
class StaticFile:
    """One file as it is sent, with a compressed form where that is smaller to send."""

    body: bytes
    squeezed: bytes | None
    content_type: str


@lru_cache(maxsize=1)
def static_files() -> Mapping[str, StaticFile]:
    """Return every static file by its path, `site.css` made of the stylesheets among them."""
    folder = files("app.web").joinpath("static")
    found = dict(_walk(folder, ""))
    found["site.css"] = b"\n".join(found.pop(f"css/{name}.css") for name in STYLES)
    return {path: _static_file(path, body) for path, body in sorted(found.items())}


@lru_cache(maxsize=1)
def version() -> str:
    """Return the hash of all static files, which is part of their address: a new release is a new address."""
    digest = hashlib.sha256()
    for path, file in static_files().items():
        digest.update(path.encode() + b"\0" + file.body)
    return digest.hexdigest()[:12]


def address(path: str) -> str:
    """Return the address of a static file, for templates."""
    if path not in static_files():
        raise LookupError(f"there is no static file {path}")
    return f"/static/{version()}/{path}"


@router.get("/{release}/{path:path}")
def send_static(request: Request, release: str, path: str) -> Response:
    """Send a static file. An address of another release still answers, but is not kept."""
    file = static_files().get(path)
    if file is None:
        raise AppError("not_found", "There is no such file.")
    keep = _FOR_GOOD if release == version() else "no-cache"
    headers = {"cache-control": keep, "vary": "accept-encoding", "x-content-type-options": "nosniff"}
    if file.squeezed is not None and "gzip" in request.headers.get("accept-encoding", ""):
        return Response(file.squeezed, media_type=file.content_type, headers={**headers, "content-encoding": "gzip"})
    return Response(file.body, media_type=file.content_type, headers=headers)


def _walk(folder: Traversable, prefix: str) -> list[tuple[str, bytes]]:
    found = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _walk(entry, f"{prefix}{entry.name}/")
        elif entry.name.rpartition(".")[2] in _TYPES:
            found.append((prefix + entry.name, entry.read_bytes()))
    return found


def _static_file(path: str, body: bytes) -> StaticFile:
    ending = path.rpartition(".")[2]
    squeezed = gzip.compress(body, mtime=0) if ending in _SQUEEZED else None
    return StaticFile(body, squeezed if squeezed and len(squeezed) < len(body) else None, _TYPES[ending])
