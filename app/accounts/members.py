"""Members: the people of an account. Add, sign in, change roles, remove."""

from collections.abc import Iterable

from sqlalchemy import or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.accounts.accounts import create_account, get_account
from app.accounts.billing_periods import read_zone
from app.accounts.caller import Caller, caller_of
from app.accounts.passwords import hash_password, is_outdated, is_password
from app.accounts.tables import Account, ApiKey, Member
from app.clock import now
from app.db import new_id
from app.errors import AppError, not_found
from app.roles import Role, RoleHolder, read_roles, require_may_grant
from app.settings import get_settings


def add_member(
    session: Session,
    account_id: str,
    email: str,
    *,
    roles: Iterable[str],
    password: str | None = None,
    name: str = "",
    giver: RoleHolder | None = None,
) -> Member:
    """Add a person to an account.

    Raises AppError `invalid_request`; `forbidden` if `giver` hands out a role they do not have; `conflict` if somebody
    already signs in with this e-mail address.
    """
    wanted = read_roles(roles)
    require_may_grant(giver, (), wanted)
    member = Member(
        id=new_id("member"),
        account_id=account_id,
        email=read_email(email),
        name=name.strip(),
        password_hash=None if password is None else hash_password(password),
        roles=wanted,
        created_at=now(session),
    )
    try:
        with session.begin_nested():
            session.add(member)
    except IntegrityError as error:
        if "uq_members_email" not in str(error.orig):
            raise
        raise _email_in_use() from None
    return member


def sign_up(session: Session, email: str, password: str, *, name: str) -> Member:
    """Open an account for a new person, who becomes its owner; only where the operator has opened sign-up.

    Raises AppError `forbidden` where it is not open; `invalid_request`, `conflict` as in `add_member`.
    """
    signup = get_settings().signup
    if signup != "open":
        raise AppError("forbidden", "Accounts are opened by invitation only.", signup=signup)
    account = create_account(session, name)
    return add_member(session, account.id, email, roles=(Role.OWNER, Role.CREATOR), password=password, name=name)


def sign_in(session: Session, email: str, password: str) -> Caller:
    """Return the caller with this e-mail address and password.

    Raises AppError `unauthenticated`; the same, and as slow, for an unknown e-mail address as for a wrong password.
    """
    member = session.scalar(select(Member).where(Member.email == email.strip().lower(), Member.removed_at.is_(None)))
    stored = None if member is None else member.password_hash
    if not is_password(stored, password) or member is None or stored is None:
        raise AppError("unauthenticated", "E-mail or password is wrong.")
    if is_outdated(stored):
        member.password_hash = hash_password(password)
    return caller_of(get_account(session, member.account_id), member)


def record_sign_in(session: Session, member_id: str) -> None:
    """Record that a member signed in, by password or by a link."""
    session.execute(update(Member).where(Member.id == member_id).values(last_signed_in_at=now(session)))


def caller_by_id(session: Session, member_id: str) -> Caller:
    """Return the caller behind a session of the web pages. Raises `unauthenticated` once the member was removed."""
    row = session.execute(
        select(Account, Member)
        .join(Account, Account.id == Member.account_id)
        .where(Member.id == member_id, Member.removed_at.is_(None))
    ).one_or_none()
    if row is None:
        raise AppError("unauthenticated", "This member no longer exists.")
    account, member = row
    return caller_of(account, member)


def get_member(session: Session, account_id: str, member_id: str) -> Member:
    """Return a member of this account. Raises `not_found`."""
    member = session.get(Member, member_id)
    if member is None or member.account_id != account_id or member.removed_at is not None:
        raise not_found("member", member_id)
    return member


def list_members(session: Session, account_id: str) -> list[Member]:
    """Return the account's members, ordered by e-mail address."""
    query = select(Member).where(Member.account_id == account_id, Member.removed_at.is_(None))
    return list(session.scalars(query.order_by(Member.email)))


def require_unused_email(session: Session, email: str) -> None:
    """Refuse an e-mail address that is in use. Raises `invalid_request`, `conflict`."""
    query = select(Member.id).where(Member.email == read_email(email), Member.removed_at.is_(None))
    if session.scalar(query) is not None:
        raise _email_in_use()


def _email_in_use() -> AppError:
    return AppError("conflict", "Somebody already signs in with this e-mail address.", field="email")


def set_password(session: Session, account_id: str, member_id: str, password: str) -> None:
    """Give a member a new password. Raises `not_found`, `invalid_request`."""
    get_member(session, account_id, member_id).password_hash = hash_password(password)
    session.flush()


def set_language(session: Session, account_id: str, member_id: str, language: str | None) -> None:
    """Store the language in which a member reads pages; None leaves it to the browser. Raises `not_found`."""
    get_member(session, account_id, member_id).language = language
    session.flush()


def set_zone(session: Session, account_id: str, member_id: str, zone: str) -> None:
    """Set the time zone of the times on a member's pages; an empty one is the account's billing zone.

    Raises AppError `not_found`, `invalid_request`.
    """
    get_member(session, account_id, member_id).zone = read_zone(zone, "zone") if zone else None
    session.flush()


def set_roles(
    session: Session, account_id: str, member_id: str, roles: Iterable[str], *, giver: RoleHolder | None = None
) -> Member:
    """Replace a member's roles. Taking a role away needs no right to it; giving one does. Keys that carry it end.

    Raises AppError `not_found`, `invalid_request`, `forbidden`; `conflict` if it would leave no owner.
    """
    owners = _lock_owners(session, account_id)
    member = get_member(session, account_id, member_id)
    wanted = read_roles(roles)
    require_may_grant(giver, (), set(wanted) - set(member.roles))
    if Role.OWNER not in wanted:
        _keep_an_owner(owners, member)
    member.roles = wanted
    _end_keys(session, member, roles=wanted)
    session.flush()
    return member


def remove_member(session: Session, account_id: str, member_id: str) -> Member:
    """Remove a person. Keys that carry roles on their behalf end with them; plain keys are the account's and stay.

    Raises AppError `not_found`; `conflict` for the last owner.
    """
    owners = _lock_owners(session, account_id)
    member = get_member(session, account_id, member_id)
    _keep_an_owner(owners, member)
    member.removed_at = now(session)
    _end_keys(session, member, roles=[])
    session.flush()
    return member


def _end_keys(session: Session, member: Member, *, roles: list[str]) -> None:
    """Revoke the keys that carry a role on a member's behalf beside those that the member keeps."""
    theirs = or_(ApiKey.member_id == member.id, ApiKey.issued_by == member.id)
    session.execute(
        update(ApiKey)
        .where(theirs, ApiKey.revoked_at.is_(None), ~ApiKey.roles.contained_by(roles))
        .values(revoked_at=now(session))
    )


def read_email(email: str) -> str:
    """Return an e-mail address as it is stored: trimmed and in lower case.

    Raises AppError `invalid_request` if it cannot be an e-mail address.
    """
    normalized = email.strip().lower()
    name, at, host = normalized.rpartition("@")
    if not (name and at and "." in host) or len(normalized) > 254 or any(sign.isspace() for sign in normalized):
        raise AppError("invalid_request", "This is not an e-mail address.", field="email", value=email)
    return normalized


def _lock_owners(session: Session, account_id: str) -> set[str]:
    # Two owners who demote each other at once must not both succeed.
    session.execute(select(Account.id).where(Account.id == account_id).with_for_update(key_share=True))
    return {member.id for member in list_members(session, account_id) if Role.OWNER in member.roles}


def _keep_an_owner(owners: set[str], member: Member) -> None:
    if owners == {member.id}:
        raise AppError("conflict", "An account keeps at least one owner.", field="roles", id=member.id)
