"""The member's profile: change the password, and list and end sessions."""

from functools import cache
from typing import Any
from zoneinfo import available_timezones

from fastapi import APIRouter, Request, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.accounts import declare_rights
from app.accounts.members import set_password, set_zone, sign_in
from app.clock import now
from app.db import commit_early
from app.errors import AppError
from app.jobs.visible_label import policy_of
from app.web.auth import FormDep, MemberDep, OwnerDep, SessionDep, Visitor, text_of
from app.web.language import gettext
from app.web.render import page, redirect
from app.web.sessions import IDLE_MAX, end_other_sessions
from app.web.signin_limits import limit_tries
from app.web.tables import WebSession

router = APIRouter(include_in_schema=False)


@router.get("/account/profile")
def show_profile(request: Request, session: SessionDep, visitor: MemberDep) -> Response:
    """Show the member's own profile."""
    return _profile(request, session, visitor)


@router.post("/account/profile/password")
def post_password(request: Request, session: SessionDep, visitor: MemberDep, form: FormDep) -> Response:
    """Change the password; every other session ends."""
    member_id = visitor.caller.member_id or ""
    commit_early(session)
    try:
        limit_tries(f"password:{visitor.session_id}")
        sign_in(session, visitor.email, str(form.get("current") or ""))
        set_password(session, visitor.caller.account_id, member_id, str(form.get("password") or ""))
    except AppError as error:
        return _profile(request, session, visitor, error=error, status=error.status)
    end_other_sessions(session, member_id, keep=visitor.session_id)
    return _profile(request, session, visitor, done=True)


@router.post("/account/profile/zone")
def post_zone(request: Request, session: SessionDep, visitor: MemberDep, form: FormDep) -> Response:
    """Set the time zone of the times on the member's pages."""
    try:
        set_zone(session, visitor.caller.account_id, visitor.caller.member_id or "", text_of(form, "zone"))
    except AppError as error:
        return _profile(request, session, visitor, error=error, status=error.status)
    return redirect(request, "/account/profile")


@router.post("/account/profile/declaration")
def post_declaration(request: Request, session: SessionDep, visitor: OwnerDep, form: FormDep) -> Response:
    """Declare for all files of the account that it may use them, or withdraw that."""
    person = visitor.caller.person if text_of(form, "declared") else None
    declare_rights(session, visitor.caller.account_id, person)
    return redirect(request, "/account/profile")


@router.post("/account/profile/sign-outs")
def post_sign_outs(request: Request, session: SessionDep, visitor: MemberDep, form: FormDep) -> Response:
    """End the member's other sessions."""
    end_other_sessions(session, visitor.caller.member_id or "", keep=visitor.session_id)
    return redirect(request, "/account/profile")


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
        .where(WebSession.seen_at > moment - IDLE_MAX, WebSession.expires_at > moment)
        .order_by(WebSession.seen_at.desc())
    )
    sessions = [
        {"created_at": row.created_at, "seen_at": row.seen_at, "is_this": row.id == visitor.session_id} for row in rows
    ]
    context: dict[str, Any] = {"sessions": sessions, "done": done, "error": error, "now": moment, "zones": _zones()}
    context["visible_label"] = policy_of(visitor.caller.account)
    context["declared_at"] = visitor.caller.account.rights_declared_at
    return page(request, "account/profile.html", status=status, title=gettext("Profile"), **context)


@cache
def _zones() -> list[str]:
    """The zones that are named after a place, and UTC."""
    return ["UTC", *sorted(name for name in available_timezones() if "/" in name and not name.startswith("Etc/"))]
