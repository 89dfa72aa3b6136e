"""Members: who signs in for the account, what they may do, and letters to those who will."""

from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session

from app.accounts.invitations import create_invitation, list_invitations, withdraw_invitation
from app.accounts.members import list_members, remove_member, set_roles
from app.errors import AppError
from app.roles import Role
from app.settings import get_settings
from app.web.auth import FormDep, OwnerDep, SessionDep, Visitor, text_of, texts_of
from app.web.forms import NO_FORM, SubmittedForm
from app.web.render import go, page
from app.web.sessions import end_other_sessions

router = APIRouter(include_in_schema=False)


@router.get("/account/members")
def show_members(request: Request, session: SessionDep, visitor: OwnerDep) -> Response:
    """Show the members and the open letters."""
    return _members(request, session, visitor)


@router.post("/account/members")
def post_invitation(request: Request, session: SessionDep, visitor: OwnerDep, form: FormDep) -> Response:
    """Invite somebody. The letter's address is shown once; the owner sends it by whatever means they trust."""
    try:
        _, token = create_invitation(
            session,
            visitor.caller.account_id,
            text_of(form, "email"),
            roles=texts_of(form, "roles") or [Role.CREATOR],
            by=visitor.caller.person,
            giver=visitor.caller,
        )
    except AppError as error:
        return _members(request, session, visitor, error=error, sent=SubmittedForm(form))
    return _members(request, session, visitor, letter=f"{get_settings().base_url()}/invitations/{token}")


@router.post("/account/members/{member_id}/roles")
def post_roles(request: Request, session: SessionDep, visitor: OwnerDep, form: FormDep, member_id: str) -> Response:
    """Change what a member may do."""
    try:
        with session.begin_nested():
            set_roles(session, visitor.caller.account_id, member_id, texts_of(form, "roles"), giver=visitor.caller)
    except AppError as error:
        return _members(request, session, visitor, error=error, sent=SubmittedForm(form, member_id))
    return go(request, "/account/members")


@router.post("/account/members/{member_id}/removal")
def post_removal(request: Request, session: SessionDep, visitor: OwnerDep, form: FormDep, member_id: str) -> Response:
    """Remove a member; their sessions end now."""
    remove_member(session, visitor.caller.account_id, member_id)
    end_other_sessions(session, member_id)
    return go(request, "/account/members")


@router.post("/account/invitations/{invitation_id}/removal")
def post_withdrawal(
    request: Request, session: SessionDep, visitor: OwnerDep, form: FormDep, invitation_id: str
) -> Response:
    """Take a letter back that nobody has used."""
    withdraw_invitation(session, visitor.caller.account_id, invitation_id)
    return go(request, "/account/members")


def _members(
    request: Request,
    session: Session,
    visitor: Visitor,
    *,
    letter: str | None = None,
    error: AppError | None = None,
    sent: SubmittedForm = NO_FORM,
) -> Response:
    account_id = visitor.caller.account_id
    mine = sorted({str(Role.CREATOR), *visitor.caller.roles}, key=list(map(str, Role)).index)
    members = [
        {
            "id": member.id,
            "email": member.email,
            "name": member.name,
            "roles": list(member.roles),
            "last_signed_in_at": member.last_signed_in_at,
            "is_me": member.id == visitor.caller.member_id,
        }
        for member in list_members(session, account_id)
    ]
    letters = [
        {"id": each.id, "email": each.email, "roles": list(each.roles), "expires_at": each.expires_at}
        for each in list_invitations(session, account_id)
    ]
    context: dict[str, Any] = {
        "title": "Members",
        "members": members,
        "letters": letters,
        "roles": mine,
        "letter": letter,
        "sent": sent,
    }
    status = error.status if error else 200
    return page(request, "account/members.html", status=status, **context, error=error)
