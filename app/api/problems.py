"""Error responses: RFC 9457 problem documents that also contain OpenAI's `error` object for its clients."""

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
from app.api.model_headers import announce_model
from app.api.route_index import allowed_methods
from app.errors import FINDINGS_MAX, AppError, shortened

log = logging.getLogger(__name__)

PROBLEM = "application/problem+json"


class ProblemFields(BaseModel):
    """The fields of an error that every problem document has."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    field: str | None = None
    request_id: str | None = None


class ProblemOut(ProblemFields):
    """An error: its code, the field, what is wrong and what is allowed."""

    model_config = ConfigDict(extra="allow")

    errors: list[dict[str, Any]] = []
    error: dict[str, Any]


# SQLSTATEs of a transaction that lost against another one: serialization failure, deadlock, and lock timeout. It was
# rolled back completely, and the caller may repeat the request unchanged. We do not retry ourselves: a body that was
# read and a file that was stored cannot be undone, and the order of locks (app.lock_order) rules out deadlocks between
# orders, cancels, settlements, expiries, refunds and corrections.
CONFLICT_STATES = ("40001", "40P01", "55P03")

# Pydantic's names of limits, and our wording.
_LIMITS = {"le": "at most", "ge": "at least", "lt": "less than", "gt": "more than"}
# SQLSTATE of a NUL character inside JSON. In plain text the driver refuses it before the query is sent.
_NUL_IN_JSON = "22P05"


def problem(error: AppError, request: Request) -> JSONResponse:
    """Return the response to an error in the format of the interface that was called, else a problem document."""
    if error.code == "model_retired":
        announce_model(request, error.facts["value"])
    interface, short = interface_of(request), shortened(error)
    return problem_document(short, request) if interface is None else interface.error_response(short, request)


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
    """Return the header fields of an error response, the same at every interface."""
    headers = {}
    if error.status == 409 or error.code == "idempotency_mismatch":
        # The OpenAI and DashScope clients retry a 409 automatically, which would only repeat the error.
        headers["x-should-retry"] = "false"
    if error.code == "request_timeout":
        # The rest of the body is not waited for.
        headers["connection"] = "close"
    if error.code == "unauthenticated":
        headers["www-authenticate"] = "Bearer"
    if error.code == "method_not_allowed":
        headers["allow"] = ", ".join(error.facts.get("allowed", []))
    if "retry_after" in error.facts:
        headers["retry-after"] = str(error.facts["retry_after"])
    return headers


def _plain(value: Any) -> Any:
    """Return facts as JSON values: decimals and times as text."""
    if isinstance(value, dict):
        return {_plain(str(key)): _plain(each) for key, each in value.items() if each is not None}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each) for each in value]
    if isinstance(value, str):
        # A lone surrogate, which JSON can contain in a field name, cannot be encoded as UTF-8.
        return value.encode("utf-8", "backslashreplace").decode()
    return value if isinstance(value, int | float | bool) else _plain(str(value))


def from_validation(errors: Sequence[Any]) -> AppError:
    """Return the AppError for Pydantic's validation errors: the message names the first, `errors` lists some."""
    findings = [
        {
            "field": ".".join(str(part) for part in each["loc"] if part not in ("body", "query", "path", "header")),
            "message": each["msg"],
            "type": each["type"],
        }
        for each in errors[:FINDINGS_MAX]
    ]
    first = findings[0]
    if first["type"] == "json_invalid":
        return AppError("invalid_json", "The body is not valid JSON.")
    if first["type"] == "extra_forbidden":
        message = f"Unknown field: {first['field']!r}."
    else:
        message = f"{first['field'] or 'The body'}: {first['message']}."
    return AppError(
        "invalid_request", message, field=first["field"] or None, errors=findings, allowed=_allowed(errors[0])
    )


def from_http(error: HTTPException, request: Request) -> AppError:
    """Return our error for what the framework rejects before a route is reached: path, method, or form of the body.

    All such cases are listed here, so that no client ever receives the framework's own messages.
    """
    if error.status_code == 404:
        return AppError("not_found", f"Not found: {request.url.path[:200]}.")
    if error.status_code == 405:
        allowed = allowed_methods(request.app, request.url.path)
        message = f"{request.method} is not allowed here (allowed: {', '.join(allowed)})."
        return AppError("method_not_allowed", message, allowed=allowed)
    if error.status_code == 413:
        return AppError("body_too_large", str(error.detail), **getattr(error, "facts", {}))
    if error.status_code == 400 and is_form(request):
        return AppError("invalid_form", f"The form cannot be read: {str(error.detail).rstrip('.')}.")
    return AppError("invalid_json", "The body is not valid JSON.")


def is_form(request: Request) -> bool:
    """Return whether a request's body is a form, with files or without."""
    return media_type(request) in ("multipart/form-data", "application/x-www-form-urlencoded")


def is_json(request: Request) -> bool:
    """Return whether a request's body is JSON; a body without a content type is."""
    return media_type(request) == "application/json" or media_type(request).endswith("+json")


def media_type(request: Request) -> str:
    """Return the type of a request's body, without its parameters; JSON if the header is missing."""
    return request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()


def wrong_type(request: Request, allowed: list[str]) -> AppError:
    """Return the error for a body whose content type a route does not accept."""
    message = f"Unsupported content type: {media_type(request) or '(empty)'}."
    return AppError("unsupported_media_type", message, field="Content-Type", allowed=allowed)


def _allowed(error: Any) -> Any:
    """Return the limits that a value broke, in words, from a Pydantic error."""
    limits = {key: value for key, value in error.get("ctx", {}).items() if key != "error"}
    return "; ".join(f"{_LIMITS.get(key, key)} {value}" for key, value in limits.items()) or None


def from_database(error: Exception) -> AppError:
    """Return the AppError for a lost transaction, or for a database that cannot be reached."""
    if getattr(getattr(error, "orig", None), "sqlstate", None) in CONFLICT_STATES:
        log.warning("A transaction lost against a concurrent one: %s", error)
        message = "Another request changed the same data at the same time. Nothing was changed; try again."
        return AppError("unavailable", message, retry_after=1)
    log.error("The database is not reachable: %s", error)
    return AppError("unavailable", "The service cannot reach its database now.", retry_after=2)


def install(app: FastAPI) -> None:
    """Register the error handlers of the application."""

    @app.exception_handler(AppError)
    def _app_error(request: Request, error: AppError) -> JSONResponse:
        return problem(error, request)

    @app.exception_handler(RequestValidationError)
    def _request_error(request: Request, error: RequestValidationError) -> JSONResponse:
        findings = error.errors()
        # A body with another content type reaches Pydantic as bytes; its message about dictionaries would mislead.
        if findings[0]["loc"] == ("body",) and isinstance(error.body, bytes) and error.body:
            return problem(wrong_type(request, ["application/json"]), request)
        return problem(from_validation(findings), request)

    @app.exception_handler(ValidationError)
    def _shape_error(request: Request, error: ValidationError) -> JSONResponse:
        # Models that a handler validates itself (multipart forms) are caller input too.
        return problem(from_validation(error.errors()), request)

    @app.exception_handler(HTTPException)
    def _http_error(request: Request, error: HTTPException) -> JSONResponse:
        return problem(from_http(error, request), request)

    @app.exception_handler(DataError)
    def _unstorable(request: Request, error: DataError) -> JSONResponse:
        if "NUL" not in str(error.orig) and getattr(error.orig, "sqlstate", None) != _NUL_IN_JSON:
            return _unknown(request, error)
        field = next((name for name, value in request.query_params.items() if "\0" in value), None)
        message = "Text must not contain the NUL character (U+0000)."
        return problem(AppError("invalid_request", message, field=field), request)

    @app.exception_handler(PoolTimeout)
    @app.exception_handler(OperationalError)
    def _database_unavailable(request: Request, error: Exception) -> JSONResponse:
        return problem(from_database(error), request)

    @app.exception_handler(DBAPIError)
    @app.exception_handler(Exception)
    def _unknown(request: Request, error: Exception) -> JSONResponse:
        log.exception("Unexpected error", exc_info=error)
        return problem(AppError("internal_error", "An internal error occurred; nothing was charged."), request)
