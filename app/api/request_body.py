"""Read the body of a request completely before a handler runs, and limit its size.

A handler that waits for a client's bytes occupies a thread, a session and a database connection. About forty clients
that send half a body and then stop would block everybody else. So only this module waits for bodies.
"""

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import Message, Receive

from app.api.interface import UploadGate, upload_gate_of
from app.api.problems import is_form
from app.assets.limits import LIMITS
from app.assets.links import PATH, open_upload_link
from app.errors import AppError
from app.request_gate import ClientGone
from app.settings import get_settings

# A larger body is kept on disk.
_MEMORY_BYTES = 2**20
_CHUNK_BYTES = 2**16
# A form with files may hold the pictures, the clip and the sound of one order, and its text fields.
_FORM_BYTES = 2**20 + 2 * LIMITS["picture"].bytes_max + LIMITS["clip"].bytes_max + LIMITS["sound"].bytes_max


def body_limit(request: Request) -> int:
    """Return how many bytes the body of this request may have: more where files are uploaded."""
    path, limit = request.url.path, get_settings().body_bytes_max
    if _gate(request) is not None:
        return max(limit, _FORM_BYTES)
    if request.method == "PUT" and path.startswith(PATH):
        try:
            return max(limit, open_upload_link(path.removeprefix(PATH)).size)
        except AppError:
            return limit  # The route's handler answers what is wrong with the link.
    return limit


def _gate(request: Request) -> UploadGate | None:
    return upload_gate_of(request) if request.method == "POST" and is_form(request) else None


@asynccontextmanager
async def whole_body(request: Request, receive: Receive) -> AsyncIterator[Receive]:
    """Read the whole body, and yield a `receive` that replays it.

    Raises ClientGone, AppError `body_too_large`, and what the interface's upload gate raises for a form with files
    whose sender may not upload. The gate runs before the body is read, so that nobody without a key fills our disk.
    """
    limit = body_limit(request)
    declared = int(request.headers.get("content-length") or 0)
    if declared > limit:
        raise _too_large(limit)
    if not declared and "transfer-encoding" not in request.headers:
        start = await receive()
        if start["type"] != "http.request":
            raise ClientGone
        yield _start_again(start, receive)
        return
    gate = _gate(request)
    if gate is not None:
        await run_in_threadpool(gate.authorize, request)
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
        remaining = size
        is_complete = False

        async def replay() -> Message:
            nonlocal remaining, is_complete
            if is_complete:
                return await receive()  # After the body comes only the message that the client has disconnected.
            chunk = file.read(_CHUNK_BYTES)
            remaining -= len(chunk)
            is_complete = remaining <= 0
            return {"type": "http.request", "body": chunk, "more_body": not is_complete}

        yield replay


def _start_again(start: Message, receive: Receive) -> Receive:
    """Return a `receive` that gives an empty body once more before it waits for the client to disconnect."""
    messages = [start]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


def disconnect_check(receive: Receive) -> Callable[[], Awaitable[bool]]:
    """Return a function that tells whether the client has left. To be called once its whole body was read."""

    async def is_gone() -> bool:
        message: Message | None = None
        with anyio.CancelScope() as scope:
            scope.cancel()
            message = await receive()
        return message is not None and message["type"] == "http.disconnect"

    return is_gone


def _too_large(limit: int) -> AppError:
    return AppError("body_too_large", f"The body is larger than {limit} bytes.", allowed=limit)
