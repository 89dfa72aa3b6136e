"""Errors on the wire: RFC 9457 problem documents, which carry OpenAI's `error` object for its clients as well."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, ValidationError
from sqlalchemy.exc import DataError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from app.errors import AppError

log = logging.getLogger(__name__)

PROBLEM = "application/problem+json"
_WORD_OF_STATUS = {
    400: "invalid_json",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
}


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


# Doors whose clients expect another shape of errors, by the beginning of their paths.
SHAPES: dict[str, Callable[[AppError, Request], JSONResponse]] = {}


def problem(error: AppError, request: Request) -> JSONResponse:
    """Return the answer to an error, in the shape of the door that was called: a problem document by default."""
    for prefix, shape in SHAPES.items():
        if request.url.path.startswith(prefix):
            return shape(error, request)
    return problem_document(error, request)


def problem_document(error: AppError, request: Request) -> JSONResponse:
    """Return the problem document of an error (RFC 9457)."""
    headers = {}
    if error.code in ("idempotency_mismatch", "conflict", "already_final", "too_late", "not_finished"):
        # OpenAI's clients retry 409 by themselves, which would only repeat the refusal.
        headers["x-should-retry"] = "false"
    if error.code == "unauthenticated":
        headers["WWW-Authenticate"] = "Bearer"
    if "retry_after" in error.facts:
        headers["retry-after"] = str(error.facts["retry_after"])
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
    return JSONResponse(_plain(body), status_code=error.status, headers=headers, media_type=PROBLEM)


def _plain(value: Any) -> Any:
    """Return facts as JSON values: decimals and moments as text."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items() if each is not None}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each) for each in value]
    return value if isinstance(value, str | int | float | bool) else str(value)


def from_validation(errors: Sequence[Any]) -> AppError:
    """Return the AppError for pydantic's findings: the first one leads, all of them are listed."""
    found = [
        {
            "field": ".".join(str(part) for part in each["loc"] if part not in ("body", "query", "path", "header")),
            "message": each["msg"],
            "type": each["type"],
        }
        for each in errors
    ]
    first = found[0]
    if first["type"] == "json_invalid":
        return AppError("invalid_json", "The body is not valid JSON.")
    if first["type"] == "extra_forbidden":
        message = f"There is no field {first['field']!r}."
    else:
        message = f"{first['field'] or 'The body'}: {first['message']}."
    return AppError("invalid_request", message, field=first["field"] or None, errors=found, allowed=_allowed(errors[0]))


def _allowed(finding: Any) -> Any:
    """Return what would have been right, in words, from a pydantic finding."""
    limits = {key: value for key, value in finding.get("ctx", {}).items() if key != "error"}
    return "; ".join(f"{key} {value}" for key, value in limits.items()) or None


def install(app: FastAPI) -> None:
    """Answer every error of the application in this shape."""

    @app.exception_handler(AppError)
    def _app_error(request: Request, error: AppError) -> JSONResponse:
        return problem(error, request)

    @app.exception_handler(RequestValidationError)
    def _request_error(request: Request, error: RequestValidationError) -> JSONResponse:
        return problem(from_validation(error.errors()), request)

    @app.exception_handler(ValidationError)
    def _shape_error(request: Request, error: ValidationError) -> JSONResponse:
        # Shapes that a handler validates itself (multipart forms) are the caller's input too.
        return problem(from_validation(error.errors()), request)

    @app.exception_handler(HTTPException)
    def _http_error(request: Request, error: HTTPException) -> JSONResponse:
        code = _WORD_OF_STATUS.get(error.status_code, "invalid_request")
        return problem(AppError(code, str(error.detail)), request)

    @app.exception_handler(DataError)
    def _unstorable(request: Request, error: DataError) -> JSONResponse:
        if "NUL" not in str(error.orig):
            return _unknown(request, error)
        field = next((name for name, value in request.query_params.items() if "\0" in value), None)
        message = "Text may hold any character but NUL (U+0000)."
        return problem(AppError("invalid_request", message, field=field), request)

    @app.exception_handler(PoolTimeout)
    @app.exception_handler(OperationalError)
    def _database_away(request: Request, error: Exception) -> JSONResponse:
        log.error("The database is not reachable: %s", error)
        away = AppError("unavailable", "The service cannot reach its database now.", retry_after=2)
        return problem(away, request)

    @app.exception_handler(DBAPIError)
    @app.exception_handler(Exception)
    def _unknown(request: Request, error: Exception) -> JSONResponse:
        log.exception("Unexpected error", exc_info=error)
        return problem(AppError("internal_error", "Something broke on our side; nothing was charged."), request)
