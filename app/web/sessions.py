"""Sign-in sessions: open, read, end. The browser holds a random token in a cookie; the database holds its hash."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from fastapi import Response
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.clock import now
from app.settings import get_settings
from app.web.tables import WebSession

# A session ends after so long without a visit, and after so long in any case.
IDLE = timedelta(days=7)
LONGEST = timedelta(days=30)
# Every page would otherwise write the row of its session.
_SEEN_NOTED_EVERY = timedelta(minutes=5)


@dataclass(frozen=True)
class SignedIn:
    """A session as it was found: whose it is, and what its pages show."""

    id: str
    member_id: str
    token: str
    test: bool
    proved_at: datetime

    @property
    def csrf(self) -> str:
        """The word that every form of this session carries. It is derived from the cookie, and does not reveal it."""
        return csrf_of(self.token)


def open_web_session(session: Session, member_id: str) -> str:
    """Open a session for a member who has just proved who they are; return its token for the cookie."""
    token, moment = secrets.token_urlsafe(32), now(session)
    session.add(
        WebSession(
            id=_hash(token),
            member_id=member_id,
            created_at=moment,
            seen_at=moment,
            proved_at=moment,
            expires_at=moment + LONGEST,
        )
    )
    session.flush()
    return token


def read_web_session(session: Session, token: str) -> SignedIn | None:
    """Return the session of a cookie's token, or None when there is none or it has ended."""
    moment = now(session)
    row = session.scalar(
        select(WebSession).where(
            WebSession.id == _hash(token),
            WebSession.ended_at.is_(None),
            WebSession.expires_at > moment,
            WebSession.seen_at > moment - IDLE,
        )
    )
    if row is None:
        return None
    if moment - row.seen_at > _SEEN_NOTED_EVERY:
        row.seen_at = moment
        session.flush()
    return SignedIn(row.id, row.member_id, token, row.test, row.proved_at)


def end_web_session(session: Session, session_id: str) -> None:
    """End one session: its cookie opens nothing any more."""
    session.execute(
        update(WebSession)
        .where(WebSession.id == session_id, WebSession.ended_at.is_(None))
        .values(ended_at=now(session))
    )


def end_other_sessions(session: Session, member_id: str, keep: str | None = None) -> None:
    """End a member's sessions, as after a new password; `keep` names the one to leave."""
    session.execute(
        update(WebSession)
        .where(WebSession.member_id == member_id, WebSession.ended_at.is_(None), WebSession.id != (keep or ""))
        .values(ended_at=now(session))
    )


def show_test_jobs(session: Session, session_id: str, *, test: bool) -> None:
    """Let the pages of a session show and order test jobs, or live ones."""
    session.execute(update(WebSession).where(WebSession.id == session_id).values(test=test))


def is_secure() -> bool:
    """Say whether customers reach the service over TLS, so that cookies can be bound to it."""
    return get_settings().base_url().startswith("https://")


def cookie_name() -> str:
    """Return the name of the session cookie; `__Host-` makes browsers refuse one that another host has set."""
    return "__Host-cinemeter" if is_secure() else "cinemeter"


def set_cookie(response: Response, token: str) -> None:
    """Give the browser the session's token."""
    response.set_cookie(
        cookie_name(),
        token,
        max_age=int(LONGEST.total_seconds()),
        path="/",
        secure=is_secure(),
        httponly=True,
        samesite="lax",
    )


def drop_cookie(response: Response) -> None:
    """Take the token from the browser."""
    response.delete_cookie(cookie_name(), path="/", secure=is_secure(), httponly=True, samesite="lax")


def csrf_of(token: str) -> str:
    """Return the word that forms of the session with this token carry."""
    return hmac.new(token.encode(), b"forms of this session", hashlib.sha256).hexdigest()[:40]


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
