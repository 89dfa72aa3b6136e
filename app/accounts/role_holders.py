"""The persons who have a role: members, and those behind live keys that carry it."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.accounts.tables import Account, ApiKey, Member
from app.clock import now
from app.roles import Role


def persons_with_role(session: Session, role: Role) -> set[str]:
    """Return the persons of accounts that are not suspended who have a role, as members or through a live key."""
    members = session.execute(
        select(Member.id)
        .join(Account, Account.id == Member.account_id)
        .where(Member.removed_at.is_(None), Account.suspended_at.is_(None))
        .where(Member.roles.contains([str(role)]))
    ).scalars()
    moment = now(session)
    keys = session.execute(
        select(func.coalesce(ApiKey.member_id, ApiKey.issued_by, ApiKey.account_id))
        .join(Account, Account.id == ApiKey.account_id)
        .where(ApiKey.revoked_at.is_(None) | (ApiKey.revoked_at > moment), Account.suspended_at.is_(None))
        .where(ApiKey.expires_at.is_(None) | (ApiKey.expires_at > moment))
        .where(ApiKey.roles.contains([str(role)]))
    ).scalars()
    return {*members, *keys}
