"""Errors in DashScope's format: its codes and statuses, which its clients turn into their exceptions."""

from fastapi import Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from app.api.problems import problem_headers
from app.errors import HTTP_STATUS, AppError

# DashScope's code for each of ours; the rest are InvalidParameter.
CODES = {
    "unauthenticated": "InvalidApiKey",
    "forbidden": "AccessDenied",
    "account_suspended": "AccessDenied",
    "orders_stopped": "AccessDenied",
    "terms_not_acknowledged": "AccessDenied",
    "insufficient_funds": "Arrearage",
    "budget_exceeded": "Arrearage",
    "not_found": "NotFound",
    "unknown_model": "ModelNotFound",
    "model_retired": "ModelNotFound",
    "method_not_allowed": "MethodNotAllowed",
    "body_too_large": "RequestTooLarge",
    "request_timeout": "RequestTimeOut",
    "unsupported_media_type": "UnsupportedMediaType",
    "rate_limited": "Throttling.RateQuota",
    "queue_full": "Throttling.AllocationQuota",
    "too_many_quotes": "Throttling.AllocationQuota",
    "storage_full": "Throttling.AllocationQuota",
    "too_late": "UnsupportedOperation",
    "already_final": "UnsupportedOperation",
    "conflict": "UnsupportedOperation",
    "asset_refused": "InvalidParameter.DataInspection",
    "content_refused": "DataInspectionFailed",
    "url_refused": "InvalidURL",
    "internal_error": "InternalError",
    "unavailable": "ServiceUnavailable",
    "intake_paused": "ServiceUnavailable",
}
# DashScope answers 400 to every invalid order, and its 2.x client retries a 409 automatically.
_STATUSES = {402: 400, 409: 400, 422: 400}


class ErrorOut(BaseModel):
    """An error in the format of DashScope's clients."""

    code: str
    message: str
    request_id: str
    field: str | None = None


def code_of(code: str) -> str:
    """Return DashScope's code for one of our error codes."""
    return CODES.get(code, "InvalidParameter")


def status_of(code: str) -> int:
    """Return DashScope's HTTP status for one of our error codes."""
    if code_of(code) == "ModelNotFound":
        return 404
    return _STATUSES.get(HTTP_STATUS[code], HTTP_STATUS[code])


def error_response(error: AppError, request: Request) -> JSONResponse:
    """Return an error in DashScope's format: a code, a message, the request id, and the invalid parameter."""
    body = ErrorOut(
        code=code_of(error.code), message=error.message, request_id=request.state.request_id, field=error.field
    )
    return JSONResponse(
        body.model_dump(exclude_none=True), status_code=status_of(error.code), headers=problem_headers(error)
    )
