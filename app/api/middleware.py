"""The middleware of every request: request id, body limit, log line, metrics and trace."""

import logging
import re
import time
from inspect import isawaitable

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.direct_answers import direct_answer_of
from app.api.model_headers import model_headers
from app.api.request_body import disconnect_check, whole_body
from app.api.route_index import limits_of_route, pattern_of
from app.db import new_id
from app.jobs.rate_limits import rate_limit_headers
from app.logs import add_log_ids, bind_log_ids, ids_of_path
from app.metrics import REQUEST_SECONDS, REQUESTS
from app.request_gate import ClientGone
from app.request_limits import declared_limits
from app.request_session import admit, end_admission
from app.trace import new_traceparent, read_traceparent, span, trace_id_of

log = logging.getLogger("cinemeter.requests")

METHODS = frozenset(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
_REQUEST_ID = re.compile(r"[A-Za-z0-9._\-]{1,128}")


class RequestMiddleware:
    """ASGI middleware: request ids, body limits, log, metrics and trace.

    It is plain ASGI, so that streamed responses are not buffered.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        header = request.headers.get("x-request-id", "")
        request_id = header if _REQUEST_ID.fullmatch(header) else new_id("req")
        request.state.request_id = request_id
        parent = read_traceparent(request.headers.get("traceparent"))
        with bind_log_ids(request_id=request_id), span("request", parent=parent, request_id=request_id) as traceparent:
            # A job created by this request stores it, so that its takes and webhooks continue the trace, and so that
            # their log lines carry its id, where spans are sent to nobody too.
            request.state.traceparent = traceparent or new_traceparent()
            add_log_ids(trace_id=trace_id_of(request.state.traceparent) or "")
            await self._answer(request, request_id, receive, send)

    async def _answer(self, request: Request, request_id: str, receive: Receive, send: Send) -> None:
        scope = request.scope
        started = time.perf_counter()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                end_admission(request)
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers.update(_headers_of(request, status))
            await send(message)

        try:
            async with whole_body(request, receive) as complete_receive:
                request.state.is_gone = disconnect_check(receive)
                direct_answer = direct_answer_of(request)
                if direct_answer is None:
                    await admit(request, limits_of_route(request).work)
                    await self.app(scope, complete_receive, send_with_headers)
                else:
                    await admit(request, declared_limits(scope["route"].endpoint).work)
                    response = await direct_answer(request)
                    await response(scope, complete_receive, send_with_headers)
        except ClientGone:
            log.debug("The client disconnected before its request was worked on")
        except Exception as error:
            # Unhandled errors are answered here: Starlette's own last handler lies outside of this middleware and would
            # answer without a request id and without counting. After the response has started, only the server can
            # end it.
            if status:
                raise
            response = await error_response(request, error)
            await response(scope, receive, send_with_headers)
        finally:
            end_admission(request)
            seconds = time.perf_counter() - started
            # The route's pattern, not the path: paths hold tokens that open something, and ids in labels would create
            # one time series per job. Strangers choose the method freely, too.
            route = getattr(scope.get("route"), "path", None) or pattern_of(request)
            method = request.method if request.method in METHODS else "other"
            add_log_ids(**ids_of_path(scope.get("path_params") or {}))
            log.info("%s %s %s in %s ms", method, route, status, int(1000 * seconds))
            REQUESTS.labels(route, method, status).inc()
            REQUEST_SECONDS.labels(route).observe(seconds)


def _headers_of(request: Request, status: int) -> dict[str, str]:
    """Return the headers that the work on a request has left for its answer: limits, the model's end, and costs."""
    headers = {**rate_limit_headers(getattr(request.state, "limit_statuses", [])), **model_headers(request)}
    # The order of a request that failed later was rolled back.
    return headers | getattr(request.state, "spend_headers" if status < 400 else "refusal_headers", {})


async def error_response(request: Request, error: Exception) -> Response:
    """Return the application's response to an error that a handler raised, or that occurred while reading the body."""
    handlers = request.app.exception_handlers
    handler = next(handlers[kind] for kind in type(error).__mro__ if kind in handlers)
    answer = handler(request, error)
    response: Response = await answer if isawaitable(answer) else answer
    return response
