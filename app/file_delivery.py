"""Deliver stored files: by redirect to a presigned URL from S3, whole or by byte range from any store."""

import hashlib
import re

from fastapi import Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse
from sqlalchemy.orm import Session

from app.concurrency import ConcurrencyLimit
from app.db import commit_early
from app.errors import AppError
from app.etags import matches_etag
from app.parsing import parse_integer
from app.storage import get_storage

# Validity of a presigned URL: long enough to start a download, short enough not to be shared.
PRESIGNED_SECONDS = 900
# Requests that wait for the store at once, of an account and of a process: a store that hangs must not use up the
# places of requests.
_read_slot = ConcurrencyLimit("files", "read", each=8, together=16).hold


def deliver(
    session: Session,
    request: Request,
    key: str,
    *,
    account_id: str,
    filename: str,
    content_type: str,
    redirects: bool = True,
    cache_control: str = "private, max-age=3600",
) -> Response:
    """Return the response that delivers a stored file of an account, or its header fields alone for HEAD.

    Without `redirects` it is delivered from here, whatever store holds it. What the session has done before is
    committed first. Raises AppError `gone` for a file that is not in storage, `range_not_satisfiable`, and
    `rate_limited` or `unavailable` while the store is slow.
    """
    storage = get_storage()
    is_head = request.method == "HEAD"
    if not is_head and redirects:
        # A presigned URL is for one method only, so HEAD is answered here.
        url = storage.presign_get(key, seconds=PRESIGNED_SECONDS, filename=filename, content_type=content_type)
        if url is not None:
            return RedirectResponse(url, status_code=302, headers={"cache-control": "no-store"})
    commit_early(session)
    with _read_slot(account_id):
        stat = storage.stat(key)
    if stat is None:
        raise AppError("gone", "The file is no longer in storage.")
    etag = _etag(key)
    headers = {
        "accept-ranges": "bytes",
        "etag": etag,
        "content-disposition": f'inline; filename="{filename}"',
        "cache-control": cache_control,
        "x-content-type-options": "nosniff",
    }
    if matches_etag(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers=headers)
    if is_head:
        # A range is for GET only (RFC 9110 §14.2).
        return Response(media_type=content_type, headers={**headers, "content-length": str(stat.bytes)})
    # A client that has a part of another file gets the whole of this one (RFC 9110 §13.1.5).
    is_same = request.headers.get("if-range", etag) == etag
    span = byte_range(request.headers.get("range") if is_same else None, stat.bytes)
    if span is None:
        headers["content-length"] = str(stat.bytes)
        return StreamingResponse(storage.read_range(key, 0, stat.bytes), media_type=content_type, headers=headers)
    start, end = span
    headers |= {"content-range": f"bytes {start}-{end - 1}/{stat.bytes}", "content-length": str(end - start)}
    return StreamingResponse(
        storage.read_range(key, start, end), status_code=206, media_type=content_type, headers=headers
    )


def _etag(key: str) -> str:
    """Return the strong ETag of a stored file: a key is written once, so it names its bytes. It reveals no key."""
    return f'"{hashlib.sha256(key.encode()).hexdigest()[:32]}"'


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the requested range as (start, end), end exclusive, or None for the whole file (RFC 9110 §14).

    A header that is not a single byte range is ignored, as the standard allows. Raises AppError
    `range_not_satisfiable` for a range after the end of the file.
    """
    match = re.fullmatch(r"\s*bytes=([0-9]*)-([0-9]*)\s*", header or "")
    if match is None or match.groups() == ("", ""):
        return None
    first, last = (parse_integer(each) for each in match.groups())
    if first is None:
        start, end = max(0, size - (last or 0)), size
    else:
        start, end = first, size if last is None else min(size, last + 1)
    if start >= size or start >= end:
        raise AppError("range_not_satisfiable", f"The file has {size} bytes.", field="Range", allowed=f"0-{size - 1}")
    return start, end
