"""Errors in DashScope's shape: its code words and its statuses, which its clients turn into their exceptions."""

from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError

from app.api.problems import from_validation, problem_headers
from app.errors import HTTP_STATUS, AppError

# Its words for ours; the rest are InvalidParameter.
WORDS = {
    "unauthenticated": "InvalidApiKey",
    "forbidden": "AccessDenied",
    "account_suspended": "AccessDenied",
    "insufficient_funds": "Arrearage",
    "budget_exceeded": "Arrearage",
    "not_found": "NotFound",
    "unknown_model": "ModelNotFound",
    "method_not_allowed": "MethodNotAllowed",
    "body_too_large": "RequestTooLarge",
    "unsupported_media_type": "UnsupportedMediaType",
    "rate_limited": "Throttling.RateQuota",
    "queue_full": "Throttling.AllocationQuota",
    "too_many_quotes": "Throttling.AllocationQuota",
    "too_late": "UnsupportedOperation",
    "already_final": "UnsupportedOperation",
    "conflict": "UnsupportedOperation",
    "asset_refused": "InvalidParameter.DataInspection",
    "url_refused": "InvalidURL",
    "internal_error": "InternalError",
    "unavailable": "ServiceUnavailable",
    "intake_paused": "ServiceUnavailable",
}
# It answers 400 to whatever is wrong with an order, and its 2.x client repeats a 409 by itself.
_STATUSES = {402: 400, 409: 400, 422: 400}


class ErrorOut(BaseModel):
    """A refusal, as DashScope's clients read it."""

    code: str
    message: str
    request_id: str
    field: str | None = None


def code_of(code: str) -> str:
    """Return DashScope's word for one of our code words."""
    return WORDS.get(code, "InvalidParameter")


def status_of(code: str) -> int:
    """Return the HTTP status that DashScope gives to one of our code words."""
    if code == "unknown_model":
        return 404
    return _STATUSES.get(HTTP_STATUS[code], HTTP_STATUS[code])


def error_answer(error: AppError, request: Request) -> JSONResponse:
    """Return an error in DashScope's shape: a code, a message, the request's id, and the parameter that was wrong."""
    body = ErrorOut(
        code=code_of(error.code), message=error.message, request_id=request.state.request_id, field=error.field
    )
    return JSONResponse(
        body.model_dump(exclude_none=True), status_code=status_of(error.code), headers=problem_headers(error)
    )


@contextmanager
def to_error_answer(names: dict[str, str]) -> Iterator[None]:
    """Let refusals inside the block name parameters as the caller spelled them: `parameters.duration`, not `seconds`.

    `names` has their spelling of each native field that the order sets.
    """
    try:
        yield
    except ValidationError as error:
        raise _renamed(from_validation(error.errors()), names) from error
    except AppError as error:
        raise _renamed(error, names) from error


def _renamed(error: AppError, names: dict[str, str]) -> AppError:
    theirs = names.get(error.field or "")
    if theirs is None:
        return error
    message = error.message.replace(f"{error.field}:", f"{theirs}:", 1)
    facts = {name: value for name, value in error.facts.items() if name != "errors"}
    return AppError(error.code, message, field=theirs, **facts)
