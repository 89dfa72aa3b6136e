"""Members of the account: list, roles, removal, and invitations."""

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
from app.web.language import gettext
from app.web.render import page, redirect
from app.web.sessions import end_other_sessions

router = APIRouter(include_in_schema=False)


@router.get("/account/members")
def show_members(request: Request, session: SessionDep, visitor: OwnerDep) -> Response:
    """Show the members and the open invitations."""
    return _members(request, session, visitor)


@router.post("/account/members")
def post_invitation(request: Request, session: SessionDep, visitor: OwnerDep, form: FormDep) -> Response:
    """Create an invitation. Its link is shown once; the owner sends it to the invited person."""
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
        return _members(request, session, visitor, error=error, form=SubmittedForm(form))
    link = f"{get_settings().base_url()}/invitations/{token}"
    return _members(request, session, visitor, invitation_link=link)


@router.post("/account/members/{member_id}/roles")
def post_roles(request: Request, session: SessionDep, visitor: OwnerDep, form: FormDep, member_id: str) -> Response:
    """Change a member's roles."""
    try:
        with session.begin_nested():
            set_roles(session, visitor.caller.account_id, member_id, texts_of(form, "roles"), giver=visitor.caller)
    except AppError as error:
        return _members(request, session, visitor, error=error, form=SubmittedForm(form, member_id))
    return redirect(request, "/account/members")


@router.post("/account/members/{member_id}/removal")
def post_removal(request: Request, session: SessionDep, visitor: OwnerDep, form: FormDep, member_id: str) -> Response:
    """Remove a member and end their sessions."""
    remove_member(session, visitor.caller.account_id, member_id)
    end_other_sessions(session, member_id)
    return redirect(request, "/account/members")


@router.post("/account/invitations/{invitation_id}/removal")
def post_withdrawal(
    request: Request, session: SessionDep, visitor: OwnerDep, form: FormDep, invitation_id: str
) -> Response:
    """Revoke an invitation that was not used yet."""
    withdraw_invitation(session, visitor.caller.account_id, invitation_id)
    return redirect(request, "/account/members")


def _members(
    request: Request,
    session: Session,
    visitor: Visitor,
    *,
    invitation_link: str | None = None,
    error: AppError | None = None,
    form: SubmittedForm = NO_FORM,
) -> Response:
    account_id = visitor.caller.account_id
    grantable_roles = sorted({str(Role.CREATOR), *visitor.caller.roles}, key=list(map(str, Role)).index)
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
    invitations = [
        {"id": each.id, "email": each.email, "roles": list(each.roles), "expires_at": each.expires_at}
        for each in list_invitations(session, account_id)
    ]
    context: dict[str, Any] = {
        "title": gettext("Members"),
        "members": members,
        "invitations": invitations,
        "roles": grantable_roles,
        "invitation_link": invitation_link,
        "form": form,
    }
    status = error.status if error else 200
    return page(request, "account/members.html", status=status, **context, error=error)
