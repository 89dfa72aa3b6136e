"""What every request passes on its way in and out: an id, a limit on its body, and a log line."""

import logging
import re
import time
from inspect import isawaitable

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.assets.limits import BYTES_MAX as FILE_BYTES_MAX
from app.db import new_id
from app.doors.pace import headers_of
from app.doors.problems import is_form
from app.logs import about
from app.metrics import REQUEST_SECONDS, REQUESTS
from app.settings import get_settings
from app.trace import read_traceparent, span

log = logging.getLogger("cinemeter.requests")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._\-]{1,128}")
# Forms with files go to these addresses, which admit the caller first and stream to disk.
FORM_PATHS = ("/v1/assets", "/v1/videos", "/api/v1/uploads")
FORM_BYTES_MAX = 2 * 2**30


class BodyTooLarge(HTTPException):
    """The body outgrew its limit. FastAPI lets only HTTPExceptions out of its reading of bodies, so it is one."""

    def __init__(self, limit: int) -> None:
        super().__init__(413, f"The body is larger than {limit} bytes.")
        self.facts = {"allowed": limit}


class Wire:
    """ASGI middleware: request ids, body limits, log, metrics, trace. It is plain ASGI so that streams stay streams."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        given = request.headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else new_id("req")
        request.state.request_id = request_id
        parent = read_traceparent(request.headers.get("traceparent"))
        with about(request_id=request_id), span("request", parent=parent, request_id=request_id) as traceparent:
            # A job that this request makes carries it on its row, to its takes and its webhooks.
            request.state.traceparent = traceparent
            await self._answer(request, request_id, receive, send)

    async def _answer(self, request: Request, request_id: str, receive: Receive, send: Send) -> None:
        scope = request.scope
        started = time.perf_counter()
        status = 0

        async def tell(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers.update(headers_of(getattr(request.state, "standings", [])))
            await send(message)

        limit = body_limit(request)
        try:
            if int(request.headers.get("content-length") or 0) > limit:
                raise BodyTooLarge(limit)
            await self.app(scope, limited(receive, limit), tell)
        except Exception as error:
            # What no handler took is answered here, inside: Starlette's own last resort stands outside of this and
            # would send it without a request id and uncounted. Once the answer has begun only the server can end it.
            if status:
                raise
            answer = await last_answer(request, error)
            await answer(scope, receive, tell)
        finally:
            seconds = time.perf_counter() - started
            log.info("%s %s %s in %s ms", request.method, request.url.path, status, int(1000 * seconds))
            # The route's pattern, not the path: ids in labels would make a series for each job.
            route = getattr(scope.get("route"), "path", "-")
            REQUESTS.labels(route, request.method, status).inc()
            REQUEST_SECONDS.labels(route).observe(seconds)


async def last_answer(request: Request, error: Exception) -> Response:
    """Return the application's own answer to an error that came out of it."""
    handlers = request.app.exception_handlers
    handler = handlers[HTTPException if isinstance(error, HTTPException) else Exception]
    answer = handler(request, error)
    found: Response = await answer if isawaitable(answer) else answer
    return found


def body_limit(request: Request) -> int:
    """Return how many bytes the body of this request may have: more where files are uploaded."""
    path = request.url.path
    if is_form(request) and path.startswith(FORM_PATHS):
        return FORM_BYTES_MAX
    if request.method == "PUT" and path.startswith("/v1/assets/"):
        return FILE_BYTES_MAX
    return get_settings().body_bytes_max


def limited(receive: Receive, limit: int) -> Receive:
    """Return a `receive` that raises BodyTooLarge once more than `limit` bytes have come."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            if seen > limit:
                raise BodyTooLarge(limit)
        return message

    return counted
