"""Refusals on pages: the same words as at the API's doors, as a page, a notice, or the way to the sign-in."""

import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from sqlalchemy.exc import DataError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from app.errors import AppError
from app.logs import bind_log_ids
from app.web.formats import field as in_words
from app.web.render import is_htmx, page, render

# The longest way back that the sign-in takes.
NEXT_LENGTH_MAX = 500
# These addresses speak JSON whoever asks.
_DOORS = ("/v1/", "/api/", "/files/", "/mcp", "/openapi.json", "/healthz", "/readyz", "/metrics")
_TITLES = {401: "Sign in first", 402: "Not enough money", 403: "Not for you", 404: "Not here", 409: "Not now"}
# What is put into words here, and what the doors' handlers put into words and log, for a page as for a program.
_REFUSALS = (AppError, RequestValidationError, ValidationError, HTTPException)
_FAILURES = (DataError, PoolTimeout, OperationalError, DBAPIError, Exception)
Handler = Callable[[Request, Any], Response | Awaitable[Response]]


def install_page_problems(api: FastAPI) -> None:
    """Answer errors of pages as pages; every other address keeps the handlers it has."""
    for kind in (*_REFUSALS, *_FAILURES):
        before = api.exception_handlers.get(kind)
        if before is not None:
            api.add_exception_handler(kind, _choose(before))


def _choose(before: Handler) -> Handler:
    async def handle(request: Request, error: Exception) -> Response:
        if wants_page(request) and isinstance(error, _REFUSALS):
            return problem_page(request, as_app_error(error))
        # What is logged carries the id that the page shows, also after the request's own block has ended.
        with bind_log_ids(request_id=getattr(request.state, "request_id", "")):
            answer = before(request, error)
            answer = answer if isinstance(answer, Response) else await answer
        return problem_page(request, _told(answer)) if wants_page(request) else answer

    return handle


def wants_page(request: Request) -> bool:
    """Say whether a person's browser asks for a page or a part of one."""
    if request.url.path.startswith(_DOORS):
        return False
    return is_htmx(request) or "text/html" in request.headers.get("accept", "")


def _told(answer: Response) -> AppError:
    """Return what a problem document says, as the error that it was made of."""
    told = json.loads(bytes(answer.body))
    return AppError(told["code"], told["detail"], field=told.get("field"))


def as_app_error(error: Exception) -> AppError:
    """Return any error in words."""
    if isinstance(error, AppError):
        return error
    if isinstance(error, HTTPException) and error.status_code == 404:
        return AppError("not_found", "There is no page at this address. It may have been mistyped, or moved.")
    if isinstance(error, HTTPException):
        code = {405: "method_not_allowed", 413: "body_too_large"}.get(error.status_code)
        return AppError(code or "invalid_request", f"{error.detail}.")
    if isinstance(error, RequestValidationError | ValidationError):
        return from_findings(error)
    raise TypeError(f"{type(error).__name__} is no refusal")


def from_findings(error: RequestValidationError | ValidationError) -> AppError:
    """Return the first finding of a validation in a sentence that names the field."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
    where = in_words(field) if field else "The form"
    return AppError("invalid_request", f"{where}: {first['msg']}.")


def _way_back(request: Request) -> str:
    """Return the address that was asked for, with its query, unless that is too long for the sign-in to carry."""
    full = f"{request.url.path}?{request.url.query}" if request.url.query else request.url.path
    return full if len(full) <= NEXT_LENGTH_MAX else request.url.path


def problem_page(request: Request, error: AppError) -> Response:
    """Return the page of a refusal; somebody who is not signed in is sent to the sign-in and back."""
    if error.code == "unauthenticated" and not request.url.path.startswith("/sign-in"):
        back = _way_back(request) if request.method == "GET" and not is_htmx(request) else "/studio"
        target = f"/sign-in?next={quote(back)}"
        if is_htmx(request):
            return Response(status_code=204, headers={"hx-redirect": target})
        return Response(status_code=303, headers={"location": target})
    if is_htmx(request):
        body = render(request, "parts/notice.html", error=error)
        headers = {"hx-retarget": "#notices", "hx-reswap": "innerHTML", "cache-control": "no-store"}
        return Response(body, status_code=error.status, media_type="text/html", headers=headers)
    title = _TITLES.get(error.status, "This did not work")
    return page(request, "problem.html", status=error.status, error=error, title=title)
