"""Errors in the format of Vercel's AI Gateway: the type decides which error class its client raises."""

from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from app.api.problems import problem_headers
from app.errors import HTTP_STATUS, AppError

# The gateway's type of each of our codes; the rest are invalid_request_error, or internal_server_error above 499.
TYPES = {
    "unauthenticated": "authentication_error",
    "forbidden": "forbidden",
    "account_suspended": "forbidden",
    "orders_stopped": "forbidden",
    "terms_not_acknowledged": "forbidden",
    "not_found": "not_found",
    "unknown_model": "model_not_found",
    "model_retired": "model_not_found",
    "rate_limited": "rate_limit_exceeded",
    "queue_full": "rate_limit_exceeded",
    "too_many_quotes": "rate_limit_exceeded",
}
# The client repeats a 409 by itself, which would only repeat the error; and it knows an unknown model as a 404.
_STATUSES = {409: 400}
# A film that cannot be made is nothing that another try of the same call would change.
FAILED_TYPE, FAILED_STATUS = "failed_dependency", 424


class GatewayErrorBody(BaseModel):
    """What is wrong: the type, the sentence, our own code, and the field or the model that it is about."""

    message: str
    type: str
    param: Any = None
    code: str


class GatewayErrorOut(BaseModel):
    """An error in the format of the AI Gateway's client."""

    error: GatewayErrorBody
    request_id: str | None = None


def type_of(code: str) -> str:
    """Return the gateway's type of one of our error codes."""
    return TYPES.get(code, "internal_server_error" if HTTP_STATUS[code] >= 500 else "invalid_request_error")


def status_of(code: str) -> int:
    """Return the HTTP status of one of our error codes at this interface."""
    if type_of(code) == "model_not_found":
        return 404
    return _STATUSES.get(HTTP_STATUS[code], HTTP_STATUS[code])


def error_response(error: AppError, request: Request) -> JSONResponse:
    """Return an error in the gateway's format."""
    kind = type_of(error.code)
    param = {"modelId": request.headers.get("ai-model-id", "")[:200]} if kind == "model_not_found" else error.field
    body = GatewayErrorOut(
        error=GatewayErrorBody(message=error.message, type=kind, param=param, code=error.code),
        request_id=getattr(request.state, "request_id", None),
    )
    return JSONResponse(body.model_dump(), status_code=status_of(error.code), headers=problem_headers(error))
