"""Links for setting a password: `cinemeter up` prints one per seeded member, operators make them for locked-out ones.

A link is signed with the service's secret and valid for one day, while the member's password is unchanged. So it needs
no row of its own, and using it invalidates it.
"""

import hashlib
import hmac
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.members import get_member
from app.accounts.tables import Member
from app.audit_log.actor import Actor
from app.audit_log.log import record_action
from app.clock import now
from app.errors import AppError
from app.roles import ADMIN_ROLES, Role, require_may_grant, require_role
from app.settings import get_settings
from app.signed_tokens import InvalidToken, TokenPurpose, read_token, sign_token

VALID = timedelta(days=1)


def welcome_links(session: Session) -> dict[str, str]:
    """Return the first-run link of every member who has no password yet, by e-mail."""
    waiting = session.scalars(
        select(Member).where(Member.password_hash.is_(None), Member.removed_at.is_(None)).order_by(Member.email)
    )
    return {member.email: _link(session, member) for member in waiting}


def sign_in_link(session: Session, actor: Actor, account_id: str, member_id: str) -> str:
    """Return a link with which a locked-out member sets a new password; the audit log records it.

    Whoever makes the link could use it, so nobody can make one for a member with more admin roles than their own.
    Raises AppError `forbidden` for that and for actors who are not operators, and `not_found` for an unknown member.
    """
    require_role(actor, Role.OPERATOR)
    member = get_member(session, account_id, member_id)
    require_may_grant(actor, (), ADMIN_ROLES.intersection(member.roles))
    record_action(session, actor, "member.link_given", member_id, account=account_id)
    return _link(session, member)


def member_of_link(session: Session, token: str) -> Member:
    """Return the member whom a link is for. Raises AppError `not_found` when it is forged, expired or used."""
    message = "This link has expired or was used before. Ask an operator of this service for a new one."
    refused = AppError("not_found", message)
    try:
        content = read_token(TokenPurpose.NEW_PASSWORD, token)
        (subject,) = content.values
    except (InvalidToken, ValueError):
        raise refused from None
    member = session.get(Member, subject.partition("-")[0], with_for_update=True)
    if member is None or member.removed_at is not None or subject != _subject(member):
        raise refused
    if content.has_expired(now(session)):
        raise refused
    return member


def _link(session: Session, member: Member) -> str:
    token = sign_token(TokenPurpose.NEW_PASSWORD, _subject(member), expires_at=now(session) + VALID)
    return f"{get_settings().base_url()}/welcome/{token}"


def _subject(member: Member) -> str:
    """Return the subject of a link: the member's id, with a digest of the current password if there is one."""
    if member.password_hash is None:
        return member.id
    digest = hmac.new(get_settings().secret_key(), b"password:" + member.password_hash.encode(), hashlib.sha256)
    return f"{member.id}-{digest.hexdigest()[:24]}"
