"""Operators' actions on accounts: each is done and recorded in the audit log in one transaction."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from app.accounts import accounts
from app.accounts.accounts import create_account, get_account, reinstate, set_limits, suspend
from app.accounts.invitations import create_invitation, withdraw_invitation
from app.accounts.keys import get_key, issue_key, revoke_key, rotate_key
from app.accounts.members import remove_member, require_unused_email, set_roles
from app.accounts.memberships import FREE, change_membership, end_membership, membership_at
from app.accounts.projects import archive_project, create_project, set_budget
from app.accounts.tables import Account, AccountKind, ApiKey, Invitation, Member, MembershipPeriod, Project
from app.audit_log.actor import Actor
from app.audit_log.log import record_action
from app.clock import now
from app.errors import AppError, not_found
from app.moderation.repeaters import allow_orders, list_stops
from app.prices.find import book_at
from app.provenance.label_policy import VisibleLabel
from app.roles import ADMIN_ROLES, Role, Scope, require_may_grant, require_role
from app.wallet.balance import open_wallet
from pricing.money import Money

# Stops of an account's orders that a page shows.
STOPS_MAX = 100


def open_account(
    session: Session,
    actor: Actor,
    name: str,
    *,
    kind: str = AccountKind.PREPAID,
    currency: str = "CNY",
    billing_zone: str | None = None,
    test: bool = False,
) -> Account:
    """Open an account with its wallet. Raises AppError `forbidden`, `invalid_request`."""
    require_role(actor, Role.OPERATOR)
    sold_in = book_at(session, now(session)).book.currency
    if currency != sold_in:
        raise AppError("invalid_request", "The price book is in another currency.", field="currency", allowed=[sold_in])
    account = create_account(session, name, kind=kind, currency=currency, billing_zone=billing_zone, test=test)
    open_wallet(session, account.id)
    record_action(session, actor, "account.opened", account.id, name=account.name, kind=account.kind, test=test)
    return account


def set_account_limits(
    session: Session, actor: Actor, account_id: str, *, concurrency: int | None, queue_limit: int | None
) -> Account:
    """Set an account's own limits; None leaves what its membership says. Raises `forbidden`, `not_found`."""
    require_role(actor, Role.OPERATOR)
    before = get_account(session, account_id)
    old = {"concurrency": before.concurrency, "queue_limit": before.queue_limit}
    account = set_limits(session, account_id, concurrency=concurrency, queue_limit=queue_limit)
    new = {"concurrency": concurrency, "queue_limit": queue_limit}
    record_action(session, actor, "account.limited", account_id, before=old, after=new)
    return account


def set_visible_label(session: Session, actor: Actor, account_id: str, label: VisibleLabel | None) -> Account:
    """Set the label that an account's films show from now on; None applies the setting's.

    Raises `forbidden`, `not_found`.
    """
    require_role(actor, Role.OPERATOR)
    before = get_account(session, account_id).visible_label
    account = accounts.set_visible_label(session, account_id, label)
    record_action(session, actor, "account.labelled", account_id, before=before, after=label)
    return account


def set_membership(
    session: Session,
    actor: Actor,
    account_id: str,
    name: str,
    *,
    starts_at: datetime | None = None,
    ends_at: datetime | None = None,
) -> MembershipPeriod | None:
    """Change an account's membership from a moment on (default now); the current one ends then. `free` only ends it.

    Raises AppError `forbidden`, `not_found`; `invalid_request` for a membership that the book in force does not have or
    a moment in the past; `conflict` if it would overlap a later period.
    """
    require_role(actor, Role.OPERATOR)
    get_account(session, account_id)
    moment = starts_at or now(session)
    known = book_at(session, now(session)).book.memberships
    if name not in known:
        raise AppError("invalid_request", f"There is no membership {name!r}.", field="membership", allowed=list(known))
    before = membership_at(session, account_id, moment)
    period = None
    if name == FREE and ends_at is not None:
        message = "`free` has no end: it applies while there is no membership. Set the start of the next one."
        raise AppError("invalid_request", message, field="ends_at")
    if name == FREE:
        end_membership(session, account_id, moment)
    else:
        period = change_membership(session, account_id, name, at=moment, ends_at=ends_at)
    end = ends_at.isoformat() if ends_at else None
    facts = {"before": before, "after": name, "starts_at": moment.isoformat(), "ends_at": end}
    record_action(session, actor, "account.membership_changed", account_id, **facts)
    return period


def suspend_account(session: Session, actor: Actor, account_id: str, reason: str) -> Account:
    """Suspend an account: it can read, cancel and download, but not order. Raises `forbidden`, `not_found`.

    Moderators may do so too; an operator ends it.
    """
    require_role(actor, Role.OPERATOR, Role.MODERATOR)
    account = suspend(session, account_id, reason)
    record_action(session, actor, "account.suspended", account_id, reason=reason)
    return account


def allow_orders_again(session: Session, actor: Actor, account_id: str, stop_id: str) -> None:
    """End a stop of an account's orders. Raises as `allow_orders` does, and `not_found` for another account's."""
    if stop_id not in [stop.id for stop in list_stops(session, account_id=account_id, limit=STOPS_MAX)]:
        raise not_found("stop", stop_id)
    allow_orders(session, actor, stop_id)


def reinstate_account(session: Session, actor: Actor, account_id: str) -> Account:
    """End a suspension. Raises `forbidden`, `not_found`."""
    require_role(actor, Role.OPERATOR)
    account = reinstate(session, account_id)
    record_action(session, actor, "account.reinstated", account_id)
    return account


@dataclass(frozen=True)
class KeyOptions:
    """What a new key is to be able to do. Budgets are minor units of the account's currency."""

    scopes: tuple[str, ...]
    name: str = ""
    test: bool = False
    project_id: str | None = None
    roles: tuple[str, ...] = ()
    expires_at: datetime | None = None
    budget_total: int | None = None
    job_cap: int | None = None


def create_key(session: Session, actor: Actor, account_id: str, options: KeyOptions) -> tuple[ApiKey, str]:
    """Make a key for an account and return it with its secret, which is shown once.

    An operator gives customers' scopes to any account; a role that runs the service only if they have it themselves,
    and actions with such a key count as theirs.

    Raises AppError `forbidden`, `invalid_request`, `not_found`.
    """
    require_role(actor, Role.OPERATOR)
    require_may_grant(actor, {Scope.ADMIN}.intersection(options.scopes), options.roles)
    key, secret = issue_key(
        session,
        account_id,
        scopes=options.scopes,
        name=options.name,
        test=options.test,
        project_id=options.project_id,
        roles=options.roles,
        issued_by=actor.person if options.roles else None,
        expires_at=options.expires_at,
        budget_total=options.budget_total,
        job_cap=options.job_cap,
    )
    record_action(
        session, actor, "key.issued", key.id, account=account_id, scopes=key.scopes, roles=key.roles, test=key.test
    )
    return key, secret


def replace_key(session: Session, actor: Actor, account_id: str, key_id: str, overlap: timedelta) -> tuple[ApiKey, str]:
    """Replace a key of an account and return the new one with its secret, which is shown once.

    Raises AppError `forbidden`, for a key with a role that the operator does not have too; `not_found`, `conflict`.
    """
    require_role(actor, Role.OPERATOR)
    old = get_key(session, account_id, key_id)
    require_may_grant(actor, {Scope.ADMIN}.intersection(old.scopes), old.roles)
    fresh, secret = rotate_key(session, account_id, key_id, overlap=overlap)
    record_rotation(session, actor, fresh, key_id)
    return fresh, secret


def record_rotation(session: Session, actor: Actor, fresh: ApiKey, old_id: str) -> None:
    """Record in the audit log that a key was replaced by a new one with the same rights."""
    facts = {"account": fresh.account_id, "scopes": fresh.scopes, "roles": fresh.roles, "replaced": old_id}
    record_action(session, actor, "key.rotated", fresh.id, **facts)


def revoke_account_key(session: Session, actor: Actor, account_id: str, key_id: str) -> ApiKey:
    """Revoke a key at once. Raises `forbidden`, `not_found`."""
    require_role(actor, Role.OPERATOR)
    key = revoke_key(session, account_id, key_id)
    record_action(session, actor, "key.revoked", key_id, account=account_id)
    return key


def invite_member(
    session: Session, actor: Actor, account_id: str, email: str, roles: Iterable[str]
) -> tuple[Invitation, str]:
    """Invite a person to an account and return the token, which is shown once.

    Raises AppError `forbidden` for a service role that the operator does not have; `invalid_request`, `not_found`;
    `conflict` if the e-mail address is in use, so that nobody could ever accept.
    """
    require_role(actor, Role.OPERATOR)
    get_account(session, account_id)
    wanted = [str(role) for role in roles]
    require_may_grant(actor, (), ADMIN_ROLES.intersection(wanted))
    require_unused_email(session, email)
    invitation, token = create_invitation(session, account_id, email, roles=wanted, by=actor.person)
    record_action(session, actor, "member.invited", invitation.id, account=account_id, roles=invitation.roles)
    return invitation, token


def cancel_invitation(session: Session, actor: Actor, account_id: str, invitation_id: str) -> None:
    """Withdraw an invitation. Raises `forbidden`, `not_found`."""
    require_role(actor, Role.OPERATOR)
    withdraw_invitation(session, account_id, invitation_id)
    record_action(session, actor, "member.uninvited", invitation_id, account=account_id)


def set_member_roles(session: Session, actor: Actor, account_id: str, member_id: str, roles: Iterable[str]) -> Member:
    """Replace a member's roles. Raises `forbidden`, `not_found`, `invalid_request`, `conflict`."""
    require_role(actor, Role.OPERATOR)
    wanted = [str(role) for role in roles]
    require_may_grant(actor, (), ADMIN_ROLES.intersection(wanted))
    member = set_roles(session, account_id, member_id, wanted)
    record_action(session, actor, "member.roles_changed", member_id, account=account_id, roles=member.roles)
    return member


def delete_member(session: Session, actor: Actor, account_id: str, member_id: str) -> Member:
    """Remove a person from an account. Raises `forbidden`, `not_found`, `conflict`."""
    require_role(actor, Role.OPERATOR)
    member = remove_member(session, account_id, member_id)
    record_action(session, actor, "member.removed", member_id, account=account_id)
    return member


def create_account_project(
    session: Session, actor: Actor, account_id: str, name: str, budget_month: int | None
) -> Project:
    """Open a project of an account, with a budget per month (minor units) or none. Raises `forbidden`, `conflict`."""
    require_role(actor, Role.OPERATOR)
    account = get_account(session, account_id)
    project = create_project(session, account_id, name, budget_month=budget_month)
    budget = _decimal_text(budget_month, account.currency)
    record_action(
        session, actor, "project.opened", project.id, account=account_id, name=project.name, budget_month=budget
    )
    return project


def set_project_budget(
    session: Session, actor: Actor, account_id: str, project_id: str, budget_month: int | None
) -> Project:
    """Set a project's budget per month in minor units; None lifts it. Raises `forbidden`, `not_found`."""
    require_role(actor, Role.OPERATOR)
    project = set_budget(session, account_id, project_id, budget_month)
    budget = _decimal_text(budget_month, get_account(session, account_id).currency)
    record_action(session, actor, "project.limited", project.id, account=account_id, budget_month=budget)
    return project


def archive_account_project(session: Session, actor: Actor, account_id: str, project_id: str) -> Project:
    """Close a project to new jobs. Raises `forbidden`, `not_found`."""
    require_role(actor, Role.OPERATOR)
    project = archive_project(session, account_id, project_id)
    record_action(session, actor, "project.archived", project.id, account=account_id)
    return project


def _decimal_text(minor: int | None, currency: str) -> str | None:
    return None if minor is None else Money(minor, currency).text
