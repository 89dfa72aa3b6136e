"""Sign-in sessions: open, read, end. The browser stores a random token in a cookie; the database stores its hash."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from fastapi import Response
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.clock import now
from app.settings import get_settings
from app.web.tables import WebSession

# A session ends after IDLE_MAX without a request, and after MAX_AGE in any case.
IDLE_MAX = timedelta(days=7)
MAX_AGE = timedelta(days=30)
# How often `seen_at` is updated; otherwise every request would write its session's row.
_SEEN_INTERVAL = timedelta(minutes=5)


@dataclass(frozen=True)
class ActiveSession:
    """An open session: its member, and whether its pages show test jobs."""

    id: str
    member_id: str
    token: str
    test: bool
    proved_at: datetime


def open_web_session(session: Session, member_id: str) -> str:
    """Open a session for a member who has just been authenticated; return its token for the cookie."""
    token, moment = secrets.token_urlsafe(32), now(session)
    session.add(
        WebSession(
            id=_hash(token),
            member_id=member_id,
            created_at=moment,
            seen_at=moment,
            proved_at=moment,
            expires_at=moment + MAX_AGE,
        )
    )
    session.flush()
    return token


def read_web_session(session: Session, token: str) -> ActiveSession | None:
    """Return the session of a cookie's token, or None when it is unknown or has ended."""
    moment = now(session)
    row = session.scalar(
        select(WebSession).where(
            WebSession.id == _hash(token),
            WebSession.ended_at.is_(None),
            WebSession.expires_at > moment,
            WebSession.seen_at > moment - IDLE_MAX,
        )
    )
    if row is None:
        return None
    if moment - row.seen_at > _SEEN_INTERVAL:
        row.seen_at = moment
        session.flush()
    return ActiveSession(row.id, row.member_id, token, row.test, row.proved_at)


def end_web_session(session: Session, session_id: str) -> None:
    """End one session; its cookie is no longer accepted."""
    session.execute(
        update(WebSession)
        .where(WebSession.id == session_id, WebSession.ended_at.is_(None))
        .values(ended_at=now(session))
    )


def end_other_sessions(session: Session, member_id: str, keep: str | None = None) -> None:
    """End a member's sessions, as after a password change; `keep` is the id of a session to leave open."""
    session.execute(
        update(WebSession)
        .where(WebSession.member_id == member_id, WebSession.ended_at.is_(None), WebSession.id != (keep or ""))
        .values(ended_at=now(session))
    )


def set_test_mode(session: Session, session_id: str, *, test: bool) -> None:
    """Set whether a session's pages show and create test jobs or live ones."""
    session.execute(update(WebSession).where(WebSession.id == session_id).values(test=test))


def is_secure() -> bool:
    """Return whether the public URL uses TLS, so that cookies can be restricted to it."""
    return get_settings().base_url().startswith("https://")


def cookie_name() -> str:
    """Return the name of the session cookie; `__Host-` makes browsers refuse one that another host has set."""
    return "__Host-cinemeter" if is_secure() else "cinemeter"


def set_cookie(response: Response, token: str) -> None:
    """Set the session cookie on a response."""
    response.set_cookie(
        cookie_name(),
        token,
        max_age=int(MAX_AGE.total_seconds()),
        path="/",
        secure=is_secure(),
        httponly=True,
        samesite="lax",
    )


def clear_cookie(response: Response) -> None:
    """Delete the session cookie from the browser."""
    response.delete_cookie(cookie_name(), path="/", secure=is_secure(), httponly=True, samesite="lax")


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
