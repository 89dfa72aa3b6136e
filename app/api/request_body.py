"""The body of a request, read to its end before anything works on the request, and how large it may be.

A handler that waits for a client's bytes holds what others need: a thread, a session, one of the database's
connections. Some forty clients that send half a body and then nothing would stop everybody. So nobody waits but this.
"""

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import Message, Receive

from app.accounts.keys import authenticate
from app.api.access import bearer_key
from app.api.problems import is_form
from app.assets.limits import LIMITS
from app.assets.links import PATH, open_upload_link
from app.db import transaction
from app.errors import AppError
from app.settings import get_settings

# Beyond this a body waits on disk.
_MEMORY_BYTES = 2**20
_CHUNK_BYTES = 2**16
# Forms with files go to these addresses: the pictures, the clip and the sound of one order, and the words around them.
_FORM_PATHS = ("/v1/assets", "/v1/videos", "/api/v1/uploads/")
_FORM_BYTES = 2**20 + 2 * LIMITS["picture"].bytes_max + LIMITS["clip"].bytes_max + LIMITS["sound"].bytes_max


# Who may send a form with files, where it is not the bearer of a key: by the beginnings of paths.
GATES: dict[str, Callable[[Request], None]] = {}


class ClientGone(Exception):
    """The client left before its body was whole; there is nobody to answer."""


def body_limit(request: Request) -> int:
    """Return how many bytes the body of this request may have: more where files are uploaded."""
    path, usual = request.url.path, get_settings().body_bytes_max
    if _is_upload(request):
        return max(usual, _FORM_BYTES)
    if request.method == "PUT" and path.startswith(PATH):
        try:
            return max(usual, open_upload_link(path.removeprefix(PATH)).size)
        except AppError:
            return usual  # Its handler says what is wrong with it.
    return usual


def _is_upload(request: Request) -> bool:
    return request.method == "POST" and is_form(request) and request.url.path.startswith(_FORM_PATHS)


@asynccontextmanager
async def whole_body(request: Request, receive: Receive) -> AsyncIterator[Receive]:
    """Read the body to its end, and give a `receive` that hands it out from here.

    Raises ClientGone, AppError `body_too_large`, and `unauthenticated`, `forbidden` or `unavailable` for a form with
    files from a stranger, before any of it is read: strangers must not fill our disk.
    """
    limit = body_limit(request)
    announced = int(request.headers.get("content-length") or 0)
    if announced > limit:
        raise _too_large(limit)
    if not announced and "transfer-encoding" not in request.headers:
        yield receive
        return
    if _is_upload(request):
        require_sender = next(
            (require_sender for path, require_sender in GATES.items() if request.url.path.startswith(path)),
            _require_key,
        )
        await run_in_threadpool(require_sender, request)
    with tempfile.SpooledTemporaryFile(max_size=_MEMORY_BYTES) as file:
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                raise ClientGone
            chunk, more = message.get("body", b""), message.get("more_body", False)
            size += len(chunk)
            if size > limit:
                raise _too_large(limit)
            if size > _MEMORY_BYTES:
                await run_in_threadpool(file.write, chunk)
            else:
                file.write(chunk)
        file.seek(0)
        left = size
        is_told = False

        async def tell() -> Message:
            nonlocal left, is_told
            if is_told:
                return await receive()  # What comes after a body: that the client has gone.
            piece = file.read(_CHUNK_BYTES)
            left -= len(piece)
            is_told = left <= 0
            return {"type": "http.request", "body": piece, "more_body": not is_told}

        yield tell


def _too_large(limit: int) -> AppError:
    return AppError("body_too_large", f"The body is larger than {limit} bytes.", allowed=limit)


def _require_key(request: Request) -> None:
    try:
        with transaction() as session:
            authenticate(session, bearer_key(request))
    except SQLAlchemyError as error:
        message = "The service cannot reach its database now."
        raise AppError("unavailable", message, retry_after=2) from error
