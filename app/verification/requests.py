"""Who may ask for a verification: anybody, so many times a minute, and without a place that customers need."""

from contextlib import AbstractContextManager

from fastapi import Request

from app.jobs.rate_limits import count_stranger
from app.request_client import machine_of
from app.request_limits import RequestLimits, WorkKind
from app.request_session import end_admission
from app.verification.limits import BODY_SECONDS_MAX, FORM_BYTES_MAX, PER_MINUTE, body_slots

# The bytes of all strangers together count as those of one account.
_STRANGERS = "strangers"


def _authorize(request: Request) -> str:
    """Count the request before any of its body is read. Raises AppError `rate_limited`."""
    count_stranger(request, "verifications", PER_MINUTE)
    return _STRANGERS


def machine_of_request(request: Request) -> str:
    """Return the machine that a request comes from, as far as its address tells."""
    return machine_of(request.client.host if request.client else "unknown")


def _hold_body(request: Request) -> AbstractContextManager[None]:
    return body_slots.hold(machine_of_request(request))


VERIFICATION_LIMITS = RequestLimits(
    WorkKind.LIGHT,
    form_bytes_max=FORM_BYTES_MAX,
    authorize=_authorize,
    hold_body=_hold_body,
    body_seconds_max=BODY_SECONDS_MAX,
)


async def leave_gate(request: Request) -> None:
    """Give back the request's place at the gate: reading a file takes long, and needs no session."""
    end_admission(request)
