"""Errors in Replicate's format: problem documents whose `detail` its clients show."""

from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse

from app.api.problems import PROBLEM, ProblemFields, problem_headers
from app.errors import HTTP_STATUS, AppError


class ReplicateErrorOut(ProblemFields):
    """An error in the format of Replicate's clients, with our code and the input that it is about."""


# The errors of each route, for the OpenAPI document.
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ReplicateErrorOut, "content": {PROBLEM: {}}}
    for status in (400, 401, 402, 403, 404, 405, 408, 409, 413, 415, 422, 429, 503)
}


def status_of(code: str) -> int:
    """Return the HTTP status of one of our error codes here: Replicate knows a model that is not there as a 404."""
    return 404 if code in ("unknown_model", "model_retired") else HTTP_STATUS[code]


def error_response(error: AppError, request: Request) -> JSONResponse:
    """Return an error in Replicate's format."""
    status = status_of(error.code)
    body = ReplicateErrorOut(
        type=f"urn:cinemeter:error:{error.code}",
        title=error.code.replace("_", " ").capitalize(),
        status=status,
        detail=error.message,
        code=error.code,
        field=error.field,
        request_id=getattr(request.state, "request_id", None),
    )
    headers = problem_headers(error)
    return JSONResponse(body.model_dump(exclude_none=True), status_code=status, headers=headers, media_type=PROBLEM)
