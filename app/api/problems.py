"""Errors on the wire: RFC 9457 problem documents, which carry OpenAI's `error` object for its clients as well."""

import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, ValidationError
from sqlalchemy.exc import DataError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from app.api.interface import interface_of
from app.api.route_index import allowed_methods
from app.errors import AppError

log = logging.getLogger(__name__)

PROBLEM = "application/problem+json"


class ProblemOut(BaseModel):
    """A refusal: the code word, the field, what was wrong and what is allowed."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    code: str
    field: str | None = None
    request_id: str | None = None
    errors: list[dict[str, Any]] = []
    error: dict[str, Any]


# What the database says to the one of two transactions that has to give way: serialization failure, deadlock, and a
# lock that was not to be had in time. All of it was rolled back, and the caller may send it again as it is. We do not
# do so ourselves: a body that was read and a file that was stored cannot be taken back, and the order of locks (key,
# project, wallet) leaves no deadlock between orders, settlements, refunds and corrections.
GAVE_WAY = ("40001", "40P01", "55P03")

# How pydantic names a limit, and what we call it.
_LIMITS = {"le": "at most", "ge": "at least", "lt": "less than", "gt": "more than"}
# What the database says to NUL inside of JSON; in plain text its driver refuses it before.
_NUL_IN_JSON = "22P05"


def problem(error: AppError, request: Request) -> JSONResponse:
    """Return the response to an error in the format of the interface that was called, else a problem document."""
    interface = interface_of(request)
    return problem_document(error, request) if interface is None else interface.error_response(error, request)


def problem_document(error: AppError, request: Request) -> JSONResponse:
    """Return the problem document of an error (RFC 9457)."""
    kind = "invalid_request_error" if error.status < 500 else "server_error"
    body = {
        "type": f"urn:cinemeter:error:{error.code}",
        "title": error.code.replace("_", " ").capitalize(),
        "status": error.status,
        "detail": error.message,
        "code": error.code,
        "field": error.field,
        "request_id": getattr(request.state, "request_id", None),
        **error.facts,
        "error": {"message": error.message, "type": kind, "code": error.code, "param": error.field},
    }
    return JSONResponse(_plain(body), status_code=error.status, headers=problem_headers(error), media_type=PROBLEM)


def problem_headers(error: AppError) -> dict[str, str]:
    """Return the header fields that go with an error, at every door: what clients obey without reading the body."""
    headers = {}
    if error.status == 409 or error.code == "idempotency_mismatch":
        # Clients of both doors repeat a 409 by themselves, which would only repeat the refusal.
        headers["x-should-retry"] = "false"
    if error.code == "unauthenticated":
        headers["www-authenticate"] = "Bearer"
    if error.code == "method_not_allowed":
        headers["allow"] = ", ".join(error.facts.get("allowed", []))
    if "retry_after" in error.facts:
        headers["retry-after"] = str(error.facts["retry_after"])
    return headers


def _plain(value: Any) -> Any:
    """Return facts as JSON values: decimals and moments as text."""
    if isinstance(value, dict):
        return {_plain(str(key)): _plain(each) for key, each in value.items() if each is not None}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each) for each in value]
    if isinstance(value, str):
        # Half of a surrogate pair, as JSON may hold it in a name that is refused, cannot be written as UTF-8.
        return value.encode("utf-8", "backslashreplace").decode()
    return value if isinstance(value, int | float | bool) else _plain(str(value))


def from_validation(errors: Sequence[Any]) -> AppError:
    """Return the AppError for pydantic's findings: the first one leads, all of them are listed."""
    findings = [
        {
            "field": ".".join(str(part) for part in each["loc"] if part not in ("body", "query", "path", "header")),
            "message": each["msg"],
            "type": each["type"],
        }
        for each in errors
    ]
    first = findings[0]
    if first["type"] == "json_invalid":
        return AppError("invalid_json", "The body is not valid JSON.")
    if first["type"] == "extra_forbidden":
        message = f"There is no field {first['field']!r}."
    else:
        message = f"{first['field'] or 'The body'}: {first['message']}."
    return AppError(
        "invalid_request", message, field=first["field"] or None, errors=findings, allowed=_allowed(errors[0])
    )


def from_http(error: HTTPException, request: Request) -> AppError:
    """Return in our words what the framework refuses before a route is reached: address, method, or form of the body.

    The whole table is here, so that no client ever reads a word of the framework's.
    """
    if error.status_code == 404:
        return AppError("not_found", f"There is no address {request.url.path[:200]}.")
    if error.status_code == 405:
        allowed = allowed_methods(request.app, request.url.path)
        message = f"This address does not know {request.method}; it knows {', '.join(allowed)}."
        return AppError("method_not_allowed", message, allowed=allowed)
    if error.status_code == 413:
        return AppError("body_too_large", str(error.detail), **getattr(error, "facts", {}))
    if error.status_code == 400 and is_form(request):
        return AppError("invalid_form", f"The form cannot be read: {str(error.detail).rstrip('.')}.")
    return AppError("invalid_json", "The body is not valid JSON.")


def is_form(request: Request) -> bool:
    """Say whether a request's body is a form, with files or without."""
    return media_type(request) in ("multipart/form-data", "application/x-www-form-urlencoded")


def media_type(request: Request) -> str:
    """Return the type of a request's body, without its parameters; JSON where nothing is said."""
    return request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()


def wrong_type(request: Request, allowed: list[str]) -> AppError:
    """Return the error for a body whose type an address does not read."""
    message = f"This address does not read {media_type(request) or 'a body without a type'}."
    return AppError("unsupported_media_type", message, field="Content-Type", allowed=allowed)


def _allowed(finding: Any) -> Any:
    """Return what would have been right, in words, from a pydantic finding."""
    limits = {key: value for key, value in finding.get("ctx", {}).items() if key != "error"}
    return "; ".join(f"{_LIMITS.get(key, key)} {value}" for key, value in limits.items()) or None


def install(app: FastAPI) -> None:
    """Answer every error of the application in this shape."""

    @app.exception_handler(AppError)
    def _app_error(request: Request, error: AppError) -> JSONResponse:
        return problem(error, request)

    @app.exception_handler(RequestValidationError)
    def _request_error(request: Request, error: RequestValidationError) -> JSONResponse:
        findings = error.errors()
        # A body of another type reaches FastAPI as bytes, of which it would say that they are no dictionary.
        if findings[0]["loc"] == ("body",) and isinstance(error.body, bytes) and error.body:
            return problem(wrong_type(request, ["application/json"]), request)
        return problem(from_validation(findings), request)

    @app.exception_handler(ValidationError)
    def _shape_error(request: Request, error: ValidationError) -> JSONResponse:
        # Shapes that a handler validates itself (multipart forms) are the caller's input too.
        return problem(from_validation(error.errors()), request)

    @app.exception_handler(HTTPException)
    def _http_error(request: Request, error: HTTPException) -> JSONResponse:
        return problem(from_http(error, request), request)

    @app.exception_handler(DataError)
    def _unstorable(request: Request, error: DataError) -> JSONResponse:
        if "NUL" not in str(error.orig) and getattr(error.orig, "sqlstate", None) != _NUL_IN_JSON:
            return _unknown(request, error)
        field = next((name for name, value in request.query_params.items() if "\0" in value), None)
        message = "Text may hold any character but NUL (U+0000)."
        return problem(AppError("invalid_request", message, field=field), request)

    @app.exception_handler(PoolTimeout)
    @app.exception_handler(OperationalError)
    def _database_away(request: Request, error: Exception) -> JSONResponse:
        if getattr(getattr(error, "orig", None), "sqlstate", None) in GAVE_WAY:
            log.warning("A request gave way to another one: %s", error)
            later = AppError("unavailable", "Another change came in between; nothing was done.", retry_after=1)
            return problem(later, request)
        log.error("The database is not reachable: %s", error)
        away = AppError("unavailable", "The service cannot reach its database now.", retry_after=2)
        return problem(away, request)

    @app.exception_handler(DBAPIError)
    @app.exception_handler(Exception)
    def _unknown(request: Request, error: Exception) -> JSONResponse:
        log.exception("Unexpected error", exc_info=error)
        return problem(AppError("internal_error", "Something broke on our side; nothing was charged."), request)
