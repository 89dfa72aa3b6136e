"""Invitations: a token, shown once, lets one person join an account before it expires."""

import hashlib
import secrets
from collections.abc import Iterable
from datetime import timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.accounts.members import add_member, read_email, require_unused_email
from app.accounts.tables import Invitation, Member
from app.clock import now
from app.db import new_id
from app.errors import AppError, not_found
from app.roles import RoleHolder, read_roles, require_may_grant

VALID = timedelta(days=7)


def create_invitation(
    session: Session,
    account_id: str,
    email: str,
    *,
    roles: Iterable[str],
    by: str,
    giver: RoleHolder | None = None,
    valid: timedelta = VALID,
) -> tuple[Invitation, str]:
    """Invite a person and return the invitation with its token, of which only the hash is kept.

    `account_id`: the account to join. `email`: the e-mail address for signing in. `roles`: the roles to have. `by`: who
    invites, for the record. `giver`: who grants the roles; None is the system itself. `valid`: how long the token
    works.

    Raises AppError `invalid_request`, `forbidden`.
    """
    wanted = read_roles(roles)
    require_may_grant(giver, (), wanted)
    token = secrets.token_urlsafe(32)
    invitation = Invitation(
        id=new_id("invite"),
        account_id=account_id,
        email=read_email(email),
        roles=wanted,
        token_hash=_hash(token),
        invited_by=by,
        expires_at=now(session) + valid,
        created_at=now(session),
    )
    session.add(invitation)
    session.flush()
    return invitation, token


def accept_invitation(session: Session, token: str, password: str, *, name: str = "") -> Member:
    """Join the account that the token invites to.

    Raises AppError `not_found` for a token that is unknown, used, revoked or expired; `invalid_request`, `conflict`.
    """
    # The row is locked, so that one invitation is accepted once.
    invitation = _open(session, token, lock=True)
    member = add_member(
        session, invitation.account_id, invitation.email, roles=invitation.roles, password=password, name=name
    )
    invitation.accepted_at, invitation.accepted_by = now(session), member.id
    session.flush()
    return member


def read_invitation(session: Session, token: str) -> Invitation:
    """Return the invitation that a token stands for, if it can be accepted now.

    Raises AppError `not_found` as in `accept_invitation`; `conflict` if its e-mail address is in use by now.
    """
    invitation = _open(session, token)
    require_unused_email(session, invitation.email)
    return invitation


def _open(session: Session, token: str, *, lock: bool = False) -> Invitation:
    query = select(Invitation).where(
        Invitation.token_hash == _hash(token),
        Invitation.accepted_at.is_(None),
        Invitation.revoked_at.is_(None),
        Invitation.expires_at > now(session),
    )
    invitation = session.scalar(query.with_for_update() if lock else query)
    if invitation is None:
        raise AppError("not_found", "This invitation is unknown, was used, was taken back, or has expired.")
    return invitation


def withdraw_invitation(session: Session, account_id: str, invitation_id: str) -> None:
    """Revoke an invitation that nobody has accepted yet.

    Raises AppError `not_found`, also for one that was accepted or taken back before.
    """
    revoked = session.execute(
        update(Invitation)
        .where(
            Invitation.id == invitation_id,
            Invitation.account_id == account_id,
            Invitation.accepted_at.is_(None),
            Invitation.revoked_at.is_(None),
        )
        .values(revoked_at=now(session))
        .returning(Invitation.id)
    ).one_or_none()
    if revoked is None:
        raise not_found("invitation", invitation_id)


def list_invitations(session: Session, account_id: str) -> list[Invitation]:
    """Return the invitations that can still be accepted, newest first."""
    query = select(Invitation).where(
        Invitation.account_id == account_id,
        Invitation.accepted_at.is_(None),
        Invitation.revoked_at.is_(None),
        Invitation.expires_at > now(session),
    )
    return list(session.scalars(query.order_by(Invitation.created_at.desc())))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
