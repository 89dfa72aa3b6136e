"""Known devices: a browser that has signed in carries a signed cookie, and its tries are counted for itself alone."""

import hashlib
import secrets
from datetime import timedelta

from fastapi import Request, Response
from sqlalchemy.orm import Session

from app.clock import local_now, now
from app.request_client import machine_of
from app.signed_tokens import InvalidToken, TokenPurpose, read_token, sign_token
from app.web.sessions import is_secure

KNOWN = timedelta(days=365)


def machine(request: Request, email: str) -> str:
    """Return the machine that a try to sign in counts for: a device that is known for this address, else the network.

    The cookie proves nothing but an earlier sign-in: it opens nothing, and whoever copies it can guess as slowly as
    anybody else.
    """
    token = request.cookies.get(_cookie_name(), "")
    try:
        content = read_token(TokenPurpose.DEVICE, token)
        address, device = content.values
    except (InvalidToken, ValueError):
        return network(request)
    if address != _digest(email) or content.has_expired(local_now()):
        return network(request)
    return f"device:{device}"


def network(request: Request) -> str:
    """Return the machine of a request's IP address."""
    return machine_of(request.client.host if request.client else "unknown")


def remember_device(request: Request, response: Response, session: Session, email: str) -> None:
    """Make the browser of a request known for the member who has just signed in with this address."""
    if machine(request, email).startswith("device:"):
        return
    token = sign_token(TokenPurpose.DEVICE, _digest(email), secrets.token_hex(12), expires_at=now(session) + KNOWN)
    response.set_cookie(
        _cookie_name(),
        token,
        max_age=int(KNOWN.total_seconds()),
        path="/sign-in",
        secure=is_secure(),
        httponly=True,
        samesite="lax",
    )


def _cookie_name() -> str:
    """Return the name of the device cookie; `__Secure-` makes browsers refuse one that came over plain HTTP."""
    return "__Secure-cinemeter-device" if is_secure() else "cinemeter-device"


def _digest(email: str) -> str:
    return hashlib.sha256(email.strip().lower().encode()).hexdigest()[:24]
