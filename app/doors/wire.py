"""What every request passes on its way in and out: an id, its body brought in whole, and a log line."""

import logging
import re
import time

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.db import new_id
from app.doors.body import BodyTooLarge, ClientGone, body_limit, whole_body
from app.doors.problems import problem
from app.errors import AppError
from app.logs import about
from app.metrics import REQUEST_SECONDS, REQUESTS
from app.trace import read_traceparent, span

log = logging.getLogger("cinemeter.requests")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._\-]{1,128}")


class Wire:
    """ASGI middleware: request ids, bodies, log, metrics, trace. It is plain ASGI so that streams stay streams."""

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
                headers.update(getattr(request.state, "rate_limit", {}))
            await send(message)

        try:
            async with whole_body(request, receive) as whole:
                await self.app(scope, whole, tell)
        except BodyTooLarge:
            limit = body_limit(request)
            message = f"The body is larger than {limit} bytes."
            await problem(AppError("body_too_large", message, allowed=limit), request)(scope, receive, tell)
        except AppError as error:
            await problem(error, request)(scope, receive, tell)
        except ClientGone:
            log.debug("The client left before its body was whole")
        finally:
            seconds = time.perf_counter() - started
            log.info("%s %s %s in %s ms", request.method, request.url.path, status, int(1000 * seconds))
            # The route's pattern, not the path: ids in labels would make a series for each job.
            route = getattr(scope.get("route"), "path", "-")
            REQUESTS.labels(route, request.method, status).inc()
            REQUEST_SECONDS.labels(route).observe(seconds)
