"""The public page that verifies a file: which marks it has, and of which films of this service it is made."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool

from app.errors import AppError
from app.request_limits import request_limits
from app.verification.limits import FILE_BYTES_MAX, PER_MINUTE
from app.verification.requests import VERIFICATION_LIMITS, leave_gate, machine_of_request
from app.verification.verify import Verification, verify_upload, verify_url
from app.web.auth import FormDep, MaybeVisitor, file_of, text_of
from app.web.render import page

router = APIRouter(include_in_schema=False)

_URL_LENGTH_MAX = 4096
_LIMITS = {"megabytes": FILE_BYTES_MAX // 2**20, "per_minute": PER_MINUTE}


@router.get("/verify")
def show_verify(request: Request, visitor: MaybeVisitor) -> Response:
    """Show the forms for a file and for a URL."""
    return page(request, "verify/verify.html", verification=None, error=None, url="", **_LIMITS)


async def _verify(request: Request, form: FormDep) -> Verification | AppError:
    """Verify the file or the URL of a form, without a place at the gate; return the refusal where there is one."""
    await leave_gate(request)
    file, url = file_of(form, "file"), text_of(form, "url")
    machine = machine_of_request(request)
    try:
        if file is not None:
            return await run_in_threadpool(verify_upload, file.file, machine=machine)
        if not 0 < len(url) <= _URL_LENGTH_MAX:
            raise AppError("invalid_request", "Choose a file, or enter its URL.", field="file")
        return await run_in_threadpool(verify_url, url, machine=machine)
    except AppError as error:
        return error


# Declared before the visitor, whose session is opened after the file was read.
OutcomeDep = Annotated[Verification | AppError, Depends(_verify)]


@router.post("/verify")
@request_limits(VERIFICATION_LIMITS)
def post_verify(request: Request, outcome: OutcomeDep, form: FormDep, visitor: MaybeVisitor) -> Response:
    """Show which marks a file has. Nothing of it is kept, so a reload sends it again."""
    error = outcome if isinstance(outcome, AppError) else None
    response = page(
        request,
        "verify/verify.html",
        status=200 if error is None else error.status,
        verification=None if isinstance(outcome, AppError) else outcome,
        error=error,
        url=text_of(form, "url")[:_URL_LENGTH_MAX],
        **_LIMITS,
    )
    if error is not None and "retry_after" in error.facts:
        response.headers["retry-after"] = str(error.facts["retry_after"])
    return response
