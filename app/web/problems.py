"""Errors on pages: the API's messages as an HTML page, a notice, or a redirect to the sign-in."""

import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from sqlalchemy.exc import DataError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from app.db import transaction
from app.errors import AppError, shortened
from app.logs import bind_log_ids
from app.web.auth import find_visitor
from app.web.formats import field as field_label
from app.web.language import gettext_noop, translate
from app.web.render import is_htmx, page, render
from app.web.sessions import cookie_name

# The longest return path that the sign-in accepts.
NEXT_LENGTH_MAX = 500
# These paths, and those of every API interface, answer with JSON whatever the Accept header says.
_API_PATHS = ("/api/", "/files/", "/openapi.json", "/llms.txt", "/health", "/healthz", "/readyz", "/metrics")
_TITLES = {
    401: gettext_noop("Sign in"),
    402: gettext_noop("Not enough balance"),
    403: gettext_noop("No access"),
    404: gettext_noop("Page not found"),
    409: gettext_noop("Not possible now"),
}
# Errors that this module turns into messages, and errors that the API's handlers turn into messages and log.
_REQUEST_ERRORS = (AppError, RequestValidationError, ValidationError, HTTPException)
_SERVER_ERRORS = (DataError, PoolTimeout, OperationalError, DBAPIError, Exception)
Handler = Callable[[Request, Any], Response | Awaitable[Response]]


def install_page_problems(api: FastAPI) -> None:
    """Answer errors of page requests with pages; all other paths keep their handlers."""
    for kind in (*_REQUEST_ERRORS, *_SERVER_ERRORS):
        previous = api.exception_handlers.get(kind)
        if previous is not None:
            api.add_exception_handler(kind, _page_handler(previous))


def _page_handler(previous: Handler) -> Handler:
    async def handle(request: Request, error: Exception) -> Response:
        if wants_page(request) and isinstance(error, _REQUEST_ERRORS):
            problem = as_app_error(request, error)
            # Where requests are refused because there are too many, a refusal reads nothing.
            if problem.code not in ("rate_limited", "unavailable"):
                await run_in_threadpool(_recognise_visitor, request)
            return problem_page(request, problem)
        # The log line carries the request id that the page shows, even after the request's own log context has ended.
        with bind_log_ids(request_id=getattr(request.state, "request_id", "")):
            response = previous(request, error)
            response = response if isinstance(response, Response) else await response
        return problem_page(request, _problem_of(response)) if wants_page(request) else response

    return handle


def _recognise_visitor(request: Request) -> None:
    """Read who is signed in, for the menu of a page whose path matches no route."""
    if getattr(request.state, "visitor", None) is not None or cookie_name() not in request.cookies:
        return
    # The error is to be shown even where the database does not answer.
    with suppress(DBAPIError, PoolTimeout), transaction() as session:
        find_visitor(request, session)


def wants_page(request: Request) -> bool:
    """Return whether a browser requested a page or a part of one."""
    prefixes = (each.prefix for each in request.app.state.interfaces)
    if request.url.path.startswith((*_API_PATHS, *prefixes)):
        return False
    return is_htmx(request) or "text/html" in request.headers.get("accept", "")


def _problem_of(response: Response) -> AppError:
    """Return the AppError of a problem document."""
    document = json.loads(bytes(response.body))
    return AppError(document["code"], document["detail"], field=document.get("field"))


def as_app_error(request: Request, error: Exception) -> AppError:
    """Return an error as AppError with a message. Raises TypeError for an error that is not a request error."""
    if isinstance(error, AppError):
        return error
    if isinstance(error, HTTPException) and error.status_code == 404:
        return AppError("not_found", f"Not found: {request.url.path}.")
    if isinstance(error, HTTPException):
        code = {405: "method_not_allowed", 413: "body_too_large"}.get(error.status_code)
        return AppError(code or "invalid_request", f"{error.detail}.")
    if isinstance(error, RequestValidationError | ValidationError):
        return validation_error(error)
    raise TypeError(f"{type(error).__name__} is not a request error")


def validation_error(error: RequestValidationError | ValidationError) -> AppError:
    """Return the first finding of a validation as AppError `invalid_request`, naming the field."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
    where = field_label(field) if field else "The form"
    return AppError("invalid_request", f"{where}: {first['msg']}.")


def _return_path(request: Request) -> str:
    """Return the requested path with its query, or without it where that is too long for the sign-in to carry."""
    url = f"{request.url.path}?{request.url.query}" if request.url.query else request.url.path
    return url if len(url) <= NEXT_LENGTH_MAX else request.url.path


def problem_page(request: Request, error: AppError) -> Response:
    """Return the page or notice of an error; visitors who are not signed in are redirected to the sign-in and back."""
    error = shortened(error)
    if error.code == "unauthenticated" and not request.url.path.startswith("/sign-in"):
        back = _return_path(request) if request.method == "GET" and not is_htmx(request) else "/studio"
        target = f"/sign-in?next={quote(back)}"
        if is_htmx(request):
            return Response(status_code=204, headers={"hx-redirect": target})
        return Response(status_code=303, headers={"location": target})
    if is_htmx(request):
        body = render(request, "parts/notice.html", error=error)
        headers = {"hx-retarget": "#notices", "hx-reswap": "innerHTML", "cache-control": "no-store"}
        return Response(body, status_code=error.status, media_type="text/html", headers=headers)
    title = translate(_TITLES.get(error.status, gettext_noop("Something went wrong")))
    return page(request, "problem.html", status=error.status, error=error, title=title)
