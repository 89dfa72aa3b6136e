"""Member routes: the members of an account, and invitations to join it."""

from typing import Any

from fastapi import APIRouter, Response

from app.accounts.accounts import get_account
from app.accounts.invitations import list_invitations
from app.accounts.members import list_members
from app.accounts.tables import Member
from app.admin import accounts
from app.api.admin.access import AdminCaller, OperatorCaller
from app.api.admin.schemas import AffectedOut, InvitationIn, RolesIn
from app.audit_log.actor import Actor
from app.request_session import SessionDep

router = APIRouter(prefix="/v1/admin/accounts", tags=["admin: accounts"])


@router.get("/{account_id}/members")
def list_account_members(session: SessionDep, caller: AdminCaller, account_id: str) -> AffectedOut:
    """List the members of an account."""
    get_account(session, account_id)
    return AffectedOut(data=[_member(member) for member in list_members(session, account_id)])


@router.put("/{account_id}/members/{member_id}/roles")
def set_account_member_roles(
    session: SessionDep, caller: OperatorCaller, account_id: str, member_id: str, body: RolesIn
) -> dict[str, Any]:
    """Replace a member's roles. An account must keep at least one owner."""
    return _member(accounts.set_member_roles(session, Actor.of(caller), account_id, member_id, body.roles))


@router.delete("/{account_id}/members/{member_id}", status_code=204)
def remove_account_member(session: SessionDep, caller: OperatorCaller, account_id: str, member_id: str) -> Response:
    """Remove a member from an account."""
    accounts.delete_member(session, Actor.of(caller), account_id, member_id)
    return Response(status_code=204)


@router.get("/{account_id}/invitations")
def list_account_invitations(session: SessionDep, caller: AdminCaller, account_id: str) -> AffectedOut:
    """List the open invitations of an account."""
    get_account(session, account_id)
    data = [
        {"id": each.id, "email": each.email, "roles": each.roles, "expires_at": each.expires_at}
        for each in list_invitations(session, account_id)
    ]
    return AffectedOut(data=data)


@router.post("/{account_id}/invitations", status_code=201)
def create_account_invitation(
    session: SessionDep, caller: OperatorCaller, account_id: str, body: InvitationIn
) -> dict[str, Any]:
    """Invite a person. The token is in this response and can never be shown again."""
    invitation, token = accounts.invite_member(session, Actor.of(caller), account_id, body.email, body.roles)
    facts = {"id": invitation.id, "object": "invitation", "email": invitation.email, "roles": invitation.roles}
    return {**facts, "expires_at": invitation.expires_at, "token": token}


@router.delete("/{account_id}/invitations/{invitation_id}", status_code=204)
def cancel_account_invitation(
    session: SessionDep, caller: OperatorCaller, account_id: str, invitation_id: str
) -> Response:
    """Cancel an invitation."""
    accounts.cancel_invitation(session, Actor.of(caller), account_id, invitation_id)
    return Response(status_code=204)


def _member(member: Member) -> dict[str, Any]:
    facts = {"id": member.id, "object": "member", "email": member.email, "name": member.name, "roles": member.roles}
    return {**facts, "last_signed_in_at": member.last_signed_in_at, "created_at": member.created_at}
