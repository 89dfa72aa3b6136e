"""Read the body of a request completely before a handler runs, and limit its size.

A handler that waits for a client's bytes occupies a thread, a session and a database connection. About forty clients
that send half a body and then stop would block everybody else. So only this module waits for bodies.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from typing import IO
from weakref import WeakKeyDictionary

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import Message, Receive

from app.api.body_checks import JSON_BYTES_MAX, check_form, check_json
from app.api.interface import interface_of
from app.api.problems import is_form, is_json, media_type
from app.api.route_index import limits_of_route
from app.concurrency import ConcurrencyLimit
from app.errors import AppError
from app.request_client import client_of
from app.request_gate import ClientGone, RequestGate
from app.request_limits import RequestLimits
from app.request_session import gate_place
from app.settings import get_settings

# A larger body is kept on disk.
_MEMORY_BYTES = 2**20
_CHUNK_BYTES = 2**16
# Forms of pages, uploads apart.
PAGE_FORM_BYTES_MAX = 64 * 1024
# A body may take so long, and a second more for each so many bytes that have arrived.
GRACE_SECONDS = 20.0
BYTES_PER_SECOND_MIN = 16 * 1024
# Bodies of more than _MEMORY_BYTES that a process receives at once, of one account and of all, and their bytes on disk.
# The parser of a form writes each of its files a second time.
_body_slot = ConcurrencyLimit("large bodies", "received", each=16, together=128).hold
_disk_slot = ConcurrencyLimit("bytes of large bodies", "received", each=2**30, together=2**32).hold
# Bodies of more than JSON_BYTES_MAX that are parsed in memory at once. One takes up to about 130 MiB.
PARSED_TOGETHER_MAX = 8
_parsing_gates: WeakKeyDictionary[asyncio.AbstractEventLoop, RequestGate] = WeakKeyDictionary()


def body_limit(request: Request, limits: RequestLimits) -> int:
    """Return how many bytes the body of this request may have, by the route's limits and its content type."""
    settings_max = get_settings().body_bytes_max
    if limits.bytes_max is not None:
        return limits.bytes_max(request)
    if limits.form_bytes_max is not None and media_type(request) == "multipart/form-data":
        return limits.form_bytes_max
    if interface_of(request) is None:
        return min(PAGE_FORM_BYTES_MAX, settings_max)
    return settings_max if limits.data_urls and is_json(request) else min(JSON_BYTES_MAX, settings_max)


@asynccontextmanager
async def whole_body(request: Request, receive: Receive) -> AsyncIterator[Receive]:
    """Read the whole body, and yield a `receive` that replays it.

    It is decided who may send a body, and how many bytes, before any of it is read; and what parsers may be given,
    before any of it is parsed. Raises ClientGone, AppError `body_too_large` and `invalid_json`, and what the route or
    the interface raises for a sender whom it does not let send one, such as `unauthenticated`.
    """
    declared = int(request.headers.get("content-length") or 0)
    if not declared and "transfer-encoding" not in request.headers:
        start = await receive()
        if start["type"] != "http.request":
            raise ClientGone
        yield _start_again(start, receive)
        return
    limits = limits_of_route(request)
    sender = await _authorize(request, limits)
    bytes_max = body_limit(request, limits)
    if declared > bytes_max:
        raise _too_large(bytes_max)
    with ExitStack() as stack:
        if (declared or bytes_max) > _MEMORY_BYTES:
            stack.enter_context(_body_slot(sender))
            stack.enter_context(_disk_slot(sender, amount=declared or bytes_max))
            if limits.hold_body is not None:
                stack.enter_context(limits.hold_body(request))
        file = stack.enter_context(tempfile.SpooledTemporaryFile(max_size=_MEMORY_BYTES))
        size = await _read(receive, file, bytes_max, limits.body_seconds_max)
        check = _check_of(request, limits)
        if check is not None:
            await _enter_parsing(stack, request, size)
            await _check(check, file, size)
        # What a body occupies can be given back before its request has ended: see `release_body`.
        request.state.body_stack = stack
        yield _replay(file, size, receive)


async def release_body(request: Request) -> None:
    """Give back what the body of a request occupies: its places, its file, its form and its bytes in memory.

    For a response that waits, once its handler has read the body. Nobody can read the body after it.
    """
    await request.close()
    for name in ("_body", "_form"):
        request.__dict__.pop(name, None)
    stack: ExitStack | None = getattr(request.state, "body_stack", None)
    if stack is not None:
        stack.close()


async def _authorize(request: Request, limits: RequestLimits) -> str:
    """Return the account that sends a body, as the route or its interface says. Raises AppError as they do.

    A page that anybody may send a form to has none; its forms are too small to count.
    """
    interface = interface_of(request)
    authorize = limits.authorize or (interface.authorize if interface is not None else None)
    if authorize is None:
        return ""
    client = client_of(request)()
    if limits.authorize is None and client.is_known and "authorization" in request.headers:
        return client.name
    async with gate_place(request):
        return await run_in_threadpool(authorize, request)


async def _enter_parsing(stack: ExitStack, request: Request, size: int) -> None:
    """Take a place, until `stack` is closed, for a large body that is parsed in memory; a small one needs none.

    Raises AppError `rate_limited` and `unavailable` as the gate does.
    """
    if size <= JSON_BYTES_MAX:
        return
    gate = _parsing_gates.setdefault(
        asyncio.get_running_loop(), RequestGate(places=PARSED_TOGETHER_MAX, work_limits={})
    )
    place = await gate.enter(client_of(request))
    stack.callback(gate.leave, place)


async def _read(receive: Receive, file: IO[bytes], bytes_max: int, seconds_max: float) -> int:
    """Write the whole body to a file, and return its size. It may take so many seconds at most.

    Raises ClientGone, AppError `body_too_large`, and AppError `request_timeout` for a body that arrives too slowly.
    """
    size, more, started_at = 0, True, asyncio.get_running_loop().time()
    while more:
        seconds = min(GRACE_SECONDS + size / BYTES_PER_SECOND_MIN, seconds_max)
        try:
            async with asyncio.timeout_at(started_at + seconds):
                message = await receive()
        except TimeoutError as error:
            message_text = f"The body arrived too slowly: {size} bytes in {seconds:.0f} seconds."
            raise AppError("request_timeout", message_text, allowed=BYTES_PER_SECOND_MIN) from error
        if message["type"] != "http.request":
            raise ClientGone
        chunk, more = message.get("body", b""), message.get("more_body", False)
        size += len(chunk)
        if size > bytes_max:
            raise _too_large(bytes_max)
        if size > _MEMORY_BYTES:
            await run_in_threadpool(file.write, chunk)
        else:
            file.write(chunk)
    return size


def _check_of(request: Request, limits: RequestLimits) -> Callable[[bytes], None] | None:
    """Return the check of a body that is parsed as a whole, or None for one that is read in pieces or not parsed."""
    if is_json(request):
        # A route that says by itself how many bytes it accepts parses no JSON.
        return check_json if limits.bytes_max is None else None
    return check_form if is_form(request) and media_type(request) != "multipart/form-data" else None


async def _check(check: Callable[[bytes], None], file: IO[bytes], size: int) -> None:
    """Check what a parser would be given; a large body in a thread. Raises AppError."""

    def read_and_check() -> None:
        file.seek(0)
        check(file.read())

    if size > JSON_BYTES_MAX:
        await run_in_threadpool(read_and_check)
    else:
        read_and_check()


def _replay(file: IO[bytes], size: int, receive: Receive) -> Receive:
    """Return a `receive` that gives the body in `file` once, in pieces, and then waits for the client to disconnect."""
    file.seek(0)
    remaining = size
    is_complete = False

    async def replay() -> Message:
        nonlocal remaining, is_complete
        if is_complete or file.closed:
            return await receive()  # After the body comes only the message that the client has disconnected.
        # Nothing here waits, and whoever parses a large body would keep the event loop for all of it.
        await asyncio.sleep(0)
        chunk = file.read(_CHUNK_BYTES)
        remaining -= len(chunk)
        is_complete = remaining <= 0
        return {"type": "http.request", "body": chunk, "more_body": not is_complete}

    return replay


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
