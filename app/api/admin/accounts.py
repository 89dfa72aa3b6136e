"""Account routes: create, read, limits, membership, suspension, keys and projects."""

from datetime import datetime, timedelta
from typing import Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.accounts import accounts
from app.accounts.keys import list_keys
from app.accounts.memberships import list_periods, membership_at, memberships_at
from app.accounts.projects import list_projects
from app.accounts.tables import Account, Project
from app.admin import accounts as admin_accounts
from app.admin.accounts import KeyOptions
from app.admin.moderation import set_moderation_level
from app.admin.money import parse_amount
from app.api.admin.access import AdminCaller, After, Limit, ModeratorCaller, OperatorCaller
from app.api.admin.schemas import (
    AccountIn,
    AccountLimitsIn,
    AffectedOut,
    DeclarationsIn,
    KeyIn,
    MembershipIn,
    ModerationLevelIn,
    ProjectBudgetIn,
    ProjectIn,
    ReasonIn,
    VisibleLabelIn,
)
from app.api.keys import KeyOut, Rotation, show_key
from app.audit_log.actor import Actor
from app.clock import now
from app.request_session import SessionDep
from pricing.money import Money

router = APIRouter(prefix="/v1/admin/accounts", tags=["admin: accounts"])


class AccountOut(BaseModel):
    """A customer's account."""

    id: str
    object: Literal["account"] = "account"
    name: str
    kind: str
    currency: str
    billing_zone: str
    test: bool
    membership: str
    concurrency: int | None
    queue_limit: int | None
    visible_label: str | None
    moderation_level: str
    declarations_required: bool
    suspended_at: datetime | None
    suspended_reason: str | None
    created_at: datetime


class MembershipOut(BaseModel):
    """A membership from its start up to, and not including, its end."""

    membership: str
    starts_at: datetime
    ends_at: datetime | None


class AccountDetailOut(AccountOut):
    """An account with its membership periods."""

    memberships: list[MembershipOut]


class AccountPage(BaseModel):
    """A page of accounts, ordered by id."""

    object: Literal["list"] = "list"
    data: list[AccountOut]
    last_id: str | None
    has_more: bool


@router.get("")
def list_accounts(session: SessionDep, caller: AdminCaller, after: After = None, limit: Limit = 50) -> AccountPage:
    """List accounts."""
    rows = accounts.list_accounts(session, after=after, limit=limit + 1)
    held = memberships_at(session, [account.id for account in rows[:limit]], now(session))
    data = [AccountOut(**_facts(account, held[account.id])) for account in rows[:limit]]
    return AccountPage(data=data, last_id=data[-1].id if data else None, has_more=len(rows) > limit)


@router.post("", status_code=201)
def create_account(session: SessionDep, caller: OperatorCaller, body: AccountIn) -> AccountDetailOut:
    """Create an account with an empty wallet."""
    account = admin_accounts.open_account(
        session,
        Actor.of(caller),
        body.name,
        kind=body.kind,
        currency=body.currency,
        billing_zone=body.billing_zone,
        test=body.test,
    )
    return _show_detail(session, account)


@router.get("/{account_id}")
def get_account(session: SessionDep, caller: AdminCaller, account_id: str) -> AccountDetailOut:
    """Return an account."""
    return _show_detail(session, accounts.get_account(session, account_id))


@router.put("/{account_id}/limits")
def set_account_limits(
    session: SessionDep, caller: OperatorCaller, account_id: str, body: AccountLimitsIn
) -> AccountDetailOut:
    """Set an account's own limits. They apply to new jobs only."""
    limits = {"concurrency": body.concurrency, "queue_limit": body.queue_limit}
    return _show_detail(session, admin_accounts.set_account_limits(session, Actor.of(caller), account_id, **limits))


@router.put("/{account_id}/visible_label")
def set_account_visible_label(
    session: SessionDep, caller: OperatorCaller, account_id: str, body: VisibleLabelIn
) -> AccountDetailOut:
    """Set the label that an account's films show. It applies to new orders only."""
    label = body.visible_label
    return _show_detail(session, admin_accounts.set_visible_label(session, Actor.of(caller), account_id, label))


@router.put("/{account_id}/moderation_level")
def set_account_moderation_level(
    session: SessionDep, caller: OperatorCaller, account_id: str, body: ModerationLevelIn
) -> AccountDetailOut:
    """Set how an account's orders are moderated. It applies to new orders only."""
    return _show_detail(session, set_moderation_level(session, Actor.of(caller), account_id, body.moderation_level))


@router.put("/{account_id}/declarations")
def set_account_declarations(
    session: SessionDep, caller: OperatorCaller, account_id: str, body: DeclarationsIn
) -> AccountDetailOut:
    """Set whether an account has to declare its files. It applies to files and orders that are sent from now on."""
    required = body.declarations_required
    return _show_detail(session, admin_accounts.require_declarations(session, Actor.of(caller), account_id, required))


@router.post("/{account_id}/membership")
def set_account_membership(
    session: SessionDep, caller: OperatorCaller, account_id: str, body: MembershipIn
) -> AccountDetailOut:
    """Change an account's membership from a given time on. `free` ends its current one."""
    admin_accounts.set_membership(
        session,
        Actor.of(caller),
        account_id,
        body.membership,
        starts_at=body.starts_at,
        ends_at=body.ends_at,
    )
    return _show_detail(session, accounts.get_account(session, account_id))


@router.post("/{account_id}/suspend")
def suspend_account(session: SessionDep, caller: ModeratorCaller, account_id: str, body: ReasonIn) -> AccountDetailOut:
    """Suspend an account: it can read, cancel and download, but not order. An operator ends it."""
    return _show_detail(session, admin_accounts.suspend_account(session, Actor.of(caller), account_id, body.reason))


@router.post("/{account_id}/reinstate")
def reinstate_account(session: SessionDep, caller: OperatorCaller, account_id: str) -> AccountDetailOut:
    """End a suspension."""
    return _show_detail(session, admin_accounts.reinstate_account(session, Actor.of(caller), account_id))


@router.get("/{account_id}/keys")
def list_account_keys(session: SessionDep, caller: AdminCaller, account_id: str) -> dict[str, Any]:
    """List all keys of an account, newest first."""
    account = accounts.get_account(session, account_id)
    return {"object": "list", "data": [show_key(session, account, key) for key in list_keys(session, account_id)]}


@router.post("/{account_id}/keys", status_code=201)
def create_account_key(session: SessionDep, caller: OperatorCaller, account_id: str, body: KeyIn) -> KeyOut:
    """Create a key. Its secret is in this response and can never be shown again."""
    account = accounts.get_account(session, account_id)
    options = KeyOptions(
        scopes=tuple(body.scopes),
        name=body.name,
        test=body.test,
        project_id=body.project,
        roles=tuple(body.roles),
        expires_at=body.expires_at,
        budget_total=_amount(session, account_id, body.budget_total, "budget_total"),
        job_cap=_amount(session, account_id, body.job_cap, "job_cap"),
    )
    key, secret = admin_accounts.create_key(session, Actor.of(caller), account_id, options)
    return show_key(session, account, key, secret)


@router.post("/{account_id}/keys/{key_id}/rotate")
def rotate_account_key(
    session: SessionDep, caller: OperatorCaller, account_id: str, key_id: str, body: Rotation
) -> KeyOut:
    """Replace a key by a new one with the same permissions. The old one stays valid for the overlap."""
    overlap = timedelta(hours=body.overlap_hours)
    fresh, secret = admin_accounts.replace_key(session, Actor.of(caller), account_id, key_id, overlap)
    return show_key(session, accounts.get_account(session, account_id), fresh, secret)


@router.delete("/{account_id}/keys/{key_id}")
def revoke_account_key(session: SessionDep, caller: OperatorCaller, account_id: str, key_id: str) -> KeyOut:
    """Revoke a key immediately."""
    key = admin_accounts.revoke_account_key(session, Actor.of(caller), account_id, key_id)
    return show_key(session, accounts.get_account(session, account_id), key)


@router.get("/{account_id}/projects")
def list_account_projects(session: SessionDep, caller: AdminCaller, account_id: str) -> AffectedOut:
    """List an account's open projects."""
    account = accounts.get_account(session, account_id)
    return AffectedOut(data=[_project(account, project) for project in list_projects(session, account_id)])


@router.post("/{account_id}/projects", status_code=201)
def create_account_project(
    session: SessionDep, caller: OperatorCaller, account_id: str, body: ProjectIn
) -> dict[str, Any]:
    """Create a project, with or without a monthly budget."""
    budget = _amount(session, account_id, body.budget_month, "budget_month")
    project = admin_accounts.create_account_project(session, Actor.of(caller), account_id, body.name, budget)
    return _project(accounts.get_account(session, account_id), project)


@router.put("/{account_id}/projects/{project_id}/budget")
def set_account_project_budget(
    session: SessionDep, caller: OperatorCaller, account_id: str, project_id: str, body: ProjectBudgetIn
) -> dict[str, Any]:
    """Set a project's monthly budget; null removes it. It applies to new jobs only."""
    budget = _amount(session, account_id, body.budget_month, "budget_month")
    project = admin_accounts.set_project_budget(session, Actor.of(caller), account_id, project_id, budget)
    return _project(accounts.get_account(session, account_id), project)


@router.delete("/{account_id}/projects/{project_id}", status_code=204)
def archive_account_project(session: SessionDep, caller: OperatorCaller, account_id: str, project_id: str) -> Response:
    """Close a project to new jobs. Its past jobs stay on statements."""
    admin_accounts.archive_account_project(session, Actor.of(caller), account_id, project_id)
    return Response(status_code=204)


def _amount(session: Session, account_id: str, text: str | None, field: str) -> int | None:
    return None if text is None else parse_amount(session, account_id, text, field=field)


def _show_detail(session: Session, account: Account) -> AccountDetailOut:
    periods = [
        MembershipOut(membership=each.name, starts_at=each.starts_at, ends_at=each.ends_at)
        for each in list_periods(session, account.id)
    ]
    return AccountDetailOut(**_facts(account, membership_at(session, account.id, now(session))), memberships=periods)


def _facts(account: Account, membership: str) -> dict[str, Any]:
    names = ("id", "name", "kind", "currency", "billing_zone", "test", "concurrency", "queue_limit")
    more = (
        "visible_label",
        "moderation_level",
        "declarations_required",
        "suspended_at",
        "suspended_reason",
        "created_at",
    )
    facts = {name: getattr(account, name) for name in (*names, *more)}
    return facts | {"membership": membership}


def _project(account: Account, project: Project) -> dict[str, Any]:
    budget = None if project.budget_month is None else Money(project.budget_month, account.currency).text
    facts = {"id": project.id, "object": "project", "name": project.name, "budget_month": budget}
    return {**facts, "archived_at": project.archived_at, "created_at": project.created_at}
