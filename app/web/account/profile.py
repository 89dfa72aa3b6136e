"""One's own page: a new password, and the browsers in which one is signed in."""

from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.members import set_password, sign_in
from app.clock import now
from app.errors import AppError
from app.web.auth import FormDep, MemberDep, SessionDep, Visitor
from app.web.render import go, page
from app.web.sessions import IDLE, end_other_sessions
from app.web.signin_limits import count_try
from app.web.tables import WebSession

router = APIRouter(include_in_schema=False)


@router.get("/account/profile")
def show_profile(request: Request, session: SessionDep, visitor: MemberDep) -> Response:
    """Show one's own page."""
    return _profile(request, session, visitor)


@router.post("/account/profile/password")
def post_password(request: Request, session: SessionDep, visitor: MemberDep, form: FormDep) -> Response:
    """Take a new password; every other browser is signed out."""
    member_id = visitor.caller.member_id or ""
    try:
        count_try(f"member:{visitor.email}")
        sign_in(session, visitor.email, str(form.get("current") or ""))
        set_password(session, visitor.caller.account_id, member_id, str(form.get("password") or ""))
    except AppError as error:
        return _profile(request, session, visitor, error=error, status=error.status)
    end_other_sessions(session, member_id, keep=visitor.session_id)
    return _profile(request, session, visitor, done=True)


@router.post("/account/profile/sign-outs")
def post_sign_outs(request: Request, session: SessionDep, visitor: MemberDep, form: FormDep) -> Response:
    """Sign out everywhere else."""
    end_other_sessions(session, visitor.caller.member_id or "", keep=visitor.session_id)
    return go(request, "/account/profile")


def _profile(
    request: Request,
    session: Session,
    visitor: Visitor,
    *,
    done: bool = False,
    error: AppError | None = None,
    status: int = 200,
) -> Response:
    moment = now(session)
    rows = session.scalars(
        select(WebSession)
        .where(WebSession.member_id == visitor.caller.member_id, WebSession.ended_at.is_(None))
        .where(WebSession.seen_at > moment - IDLE, WebSession.expires_at > moment)
        .order_by(WebSession.seen_at.desc())
    )
    browsers = [
        {"created_at": row.created_at, "seen_at": row.seen_at, "is_this": row.id == visitor.session_id} for row in rows
    ]
    context: dict[str, Any] = {"title": "Profile", "browsers": browsers, "done": done, "error": error, "now": moment}
    return page(request, "account/profile.html", status=status, **context)
