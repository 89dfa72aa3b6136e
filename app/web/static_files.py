"""Static files: read once per process, served under a hash of all of them, cached by browsers for good.

The stylesheets are joined into one file, in the order below. There is no other build step.
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
from app.web.headers import accepts_gzip

STYLES = (
    "reset",
    "tokens",
    "base",
    "layout",
    "components",
    "forms",
    "tables",
    "charts",
    "studio",
    "film",
    "pages",
    "landing",
    "docs",
)
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
_CACHE_FOREVER = "public, max-age=31536000, immutable"
_COMPRESSED = ("css", "js", "svg")

router = APIRouter(prefix="/static", include_in_schema=False)


@dataclass(frozen=True)
class StaticFile:
    """One file, with a gzip-compressed body where that is smaller."""

    body: bytes
    compressed: bytes | None
    content_type: str


@lru_cache(maxsize=1)
def static_files() -> Mapping[str, StaticFile]:
    """Return every static file by its path, including the joined `site.css`."""
    folder = files("app.web").joinpath("static")
    bodies = dict(_walk(folder, ""))
    bodies["site.css"] = b"\n".join(bodies.pop(f"css/{name}.css") for name in STYLES)
    return {path: _static_file(path, body) for path, body in sorted(bodies.items())}


@lru_cache(maxsize=1)
def version() -> str:
    """Return the hash of all static files. It is part of their URLs, so that a new release has new URLs."""
    digest = hashlib.sha256()
    for path, file in static_files().items():
        digest.update(path.encode() + b"\0" + file.body)
    return digest.hexdigest()[:12]


def static_url(path: str) -> str:
    """Return the URL path of a static file, for templates. Raises LookupError for an unknown file."""
    if path not in static_files():
        raise LookupError(f"no static file {path}")
    return f"/static/{version()}/{path}"


@router.get("/{release}/{path:path}")
def send_static(request: Request, release: str, path: str) -> Response:
    """Send a static file. A URL of another release works too, but is not cached."""
    file = static_files().get(path)
    if file is None:
        raise AppError("not_found", f"Not found: {path}.")
    keep = _CACHE_FOREVER if release == version() else "no-cache"
    headers = {"cache-control": keep, "vary": "accept-encoding", "x-content-type-options": "nosniff"}
    if file.compressed is not None and accepts_gzip(request.headers.get("accept-encoding", "")):
        return Response(file.compressed, media_type=file.content_type, headers={**headers, "content-encoding": "gzip"})
    return Response(file.body, media_type=file.content_type, headers=headers)


def _walk(folder: Traversable, prefix: str) -> list[tuple[str, bytes]]:
    entries = []
    for entry in folder.iterdir():
        if entry.is_dir():
            entries += _walk(entry, f"{prefix}{entry.name}/")
        elif entry.name.rpartition(".")[2] in _TYPES:
            entries.append((prefix + entry.name, entry.read_bytes()))
    return entries


def _static_file(path: str, body: bytes) -> StaticFile:
    extension = path.rpartition(".")[2]
    compressed = gzip.compress(body, mtime=0) if extension in _COMPRESSED else None
    return StaticFile(body, compressed if compressed and len(compressed) < len(body) else None, _TYPES[extension])
