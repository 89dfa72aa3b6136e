"""Accounts: search, details, and operators' actions: membership, limits, suspension, sign-in links."""

import secrets
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.orm import Session
from starlette.datastructures import FormData

from app.accounts.accounts import get_account
from app.accounts.members import get_member, list_members
from app.accounts.memberships import list_periods, membership_at
from app.accounts.tables import Account, AccountKind, ModerationLevel
from app.admin import accounts, money
from app.admin.moderation import set_moderation_level
from app.admin.tables import TopUpRequest
from app.admin.top_ups import open_top_ups
from app.audit_log.actor import Actor
from app.audit_log.log import list_entries
from app.clock import now
from app.errors import AppError
from app.jobs.visible_label import policy_of
from app.moderation.repeaters import list_stops
from app.parsing import parse_integer
from app.prices.find import book_at, list_contracts
from app.provenance.label_policy import VisibleLabel
from app.reports.accounts import newest_jobs, read_figures, search_accounts
from app.reports.display_names import display_names
from app.roles import Role
from app.settings import get_settings
from app.wallet.balance import balance, lock_wallet
from app.wallet.funds import list_transfers, signed_text
from app.wallet.tables import Transfer
from app.web.auth import AdminDep, FormDep, OperatorDep, SessionDep, Visitor, text_of
from app.web.formats import field as field_label
from app.web.forms import NO_FORM, SubmittedForm, parse_form_amount, parse_optional_local_time
from app.web.language import gettext, title_text
from app.web.password_links import sign_in_link
from app.web.render import page, redirect

router = APIRouter(prefix="/admin/accounts", include_in_schema=False)

PAGE = 50


@router.get("")
def show_accounts(
    request: Request,
    session: SessionDep,
    visitor: AdminDep,
    search: Annotated[str, Query(max_length=200)] = "",
    after: Annotated[str | None, Query(max_length=64)] = None,
) -> Response:
    """Show the accounts, or those that match a search for name, id or a member's e-mail."""
    return _accounts(request, session, visitor, search, after)


@router.post("")
def post_account(request: Request, session: SessionDep, visitor: OperatorDep, form: FormDep) -> Response:
    """Open an account and invite its owner; the invitation link is shown once."""
    try:
        with session.begin_nested():
            actor, kind = Actor.of(visitor.caller), text_of(form, "kind", AccountKind.PREPAID)
            account = accounts.open_account(session, actor, text_of(form, "name"), kind=kind)
            roles = (Role.OWNER, Role.CREATOR)
            _, token = accounts.invite_member(session, actor, account.id, text_of(form, "email"), roles)
    except AppError as error:
        return _accounts(request, session, visitor, "", None, error=error, form=SubmittedForm(form))
    link = f"{get_settings().base_url()}/invitations/{token}"
    return account_page(request, session, visitor, account.id, invitation_link=link)


@router.get("/{account_id}")
def show_account(request: Request, session: SessionDep, visitor: AdminDep, account_id: str) -> Response:
    """Show one account."""
    return account_page(request, session, visitor, account_id)


@router.post("/{account_id}/{action}")
def post_action(
    request: Request, session: SessionDep, visitor: OperatorDep, form: FormDep, account_id: str, action: str
) -> Response:
    """Run an action on an account: membership, limits, visible label or suspension; errors are shown on its page."""
    if action not in _ACTIONS:
        raise AppError("not_found", "Unknown action.")
    try:
        with session.begin_nested():
            _ACTIONS[action](session, visitor, form, account_id)
    except AppError as error:
        return account_page(request, session, visitor, account_id, error=error, form=SubmittedForm(form, action))
    return redirect(request, f"/admin/accounts/{account_id}?done={action}")


@router.post("/{account_id}/members/{member_id}/link")
def post_link(
    request: Request, session: SessionDep, visitor: OperatorDep, form: FormDep, account_id: str, member_id: str
) -> Response:
    """Create a link for setting a new password for a locked-out member; the account's page shows it once."""
    try:
        link = sign_in_link(session, Actor.of(visitor.caller), account_id, member_id)
    except AppError as error:
        return account_page(request, session, visitor, account_id, error=error)
    email = get_member(session, account_id, member_id).email
    return account_page(request, session, visitor, account_id, password_link={"email": email, "url": link})


def _change_membership(session: Session, visitor: Visitor, form: FormData, account_id: str) -> None:
    """Change the account's membership from now on, until a given time or without an end."""
    ends_at = parse_optional_local_time(text_of(form, "ends_at"), visitor.zone, "ends_at")
    name = text_of(form, "membership")
    accounts.set_membership(session, Actor.of(visitor.caller), account_id, name, ends_at=ends_at)


def _set_limits(session: Session, visitor: Visitor, form: FormData, account_id: str) -> None:
    """Set the account's own limits; an empty field means the membership's limit."""
    actor, account = Actor.of(visitor.caller), get_account(session, account_id)
    concurrency, queue_limit = (_parse_limit(text_of(form, name), name) for name in ("concurrency", "queue_limit"))
    # Two actions, so two entries of the audit log: its lock comes last, so the wallet is locked before the first.
    lock_wallet(session, account_id)
    accounts.set_account_limits(session, actor, account_id, concurrency=concurrency, queue_limit=queue_limit)
    credit = parse_form_amount(text_of(form, "credit_limit") or "0", account.currency, "credit_limit")
    if credit != balance(session, account_id).credit_limit:
        money.set_account_credit_limit(session, actor, account_id, credit)


def _set_label(session: Session, visitor: Visitor, form: FormData, account_id: str) -> None:
    """Set the label that the account's films show; an empty choice means the service's default."""
    text = text_of(form, "visible_label")
    if text and text not in set(VisibleLabel):
        message = f"{text!r} is no visible label."
        raise AppError("invalid_request", message, field="visible_label", allowed=list(VisibleLabel))
    label = VisibleLabel(text) if text else None
    accounts.set_visible_label(session, Actor.of(visitor.caller), account_id, label)


def _set_moderation(session: Session, visitor: Visitor, form: FormData, account_id: str) -> None:
    """Set how the account's orders are moderated."""
    text = text_of(form, "moderation_level")
    if text not in set(ModerationLevel):
        message = f"{text!r} is no level of moderation."
        raise AppError("invalid_request", message, field="moderation_level", allowed=list(ModerationLevel))
    set_moderation_level(session, Actor.of(visitor.caller), account_id, ModerationLevel(text))


def _suspend(session: Session, visitor: Visitor, form: FormData, account_id: str) -> None:
    """Suspend the account: no new films or keys; accepted films are finished."""
    accounts.suspend_account(session, Actor.of(visitor.caller), account_id, text_of(form, "reason"))


def _reinstate(session: Session, visitor: Visitor, form: FormData, account_id: str) -> None:
    """End the suspension."""
    accounts.reinstate_account(session, Actor.of(visitor.caller), account_id)


def _allow_orders(session: Session, visitor: Visitor, form: FormData, account_id: str) -> None:
    """Take orders again that were stopped after many refused ones."""
    accounts.allow_orders_again(session, Actor.of(visitor.caller), account_id, text_of(form, "stop"))


_ACTIONS: dict[str, Callable[[Session, Visitor, FormData, str], None]] = {
    "membership": _change_membership,
    "limits": _set_limits,
    "label": _set_label,
    "moderation": _set_moderation,
    "suspension": _suspend,
    "reinstatement": _reinstate,
    "orders": _allow_orders,
}


def _parse_limit(text: str, field: str) -> int | None:
    value = parse_integer(text)
    if text and value is None:
        raise AppError("invalid_request", f"{field_label(field)} must be a whole number.", field=field, value=text)
    return value


def _accounts(
    request: Request,
    session: Session,
    visitor: Visitor,
    search: str,
    after: str | None,
    *,
    error: AppError | None = None,
    form: SubmittedForm = NO_FORM,
) -> Response:
    rows, has_more = search_accounts(session, search, after=after, limit=PAGE)
    context: dict[str, Any] = {
        "accounts": rows,
        "search": search,
        "more": rows[-1].id if has_more else None,
        "now": now(session),
        "may_act": Role.OPERATOR in visitor.roles,
        "error": error,
        "form": form,
    }
    return page(
        request, "console/accounts.html", status=error.status if error else 200, title=gettext("Accounts"), **context
    )


def account_page(
    request: Request,
    session: Session,
    visitor: Visitor,
    account_id: str,
    *,
    invitation_link: str | None = None,
    password_link: dict[str, str] | None = None,
    error: AppError | None = None,
    form: SubmittedForm = NO_FORM,
) -> Response:
    """Return the page of one account, with an error if there was one."""
    account, moment = get_account(session, account_id), now(session)
    context: dict[str, Any] = {
        "account": _facts(account),
        "wallet": balance(session, account_id),
        "figures": read_figures(session, [account_id])[account_id],
        "now": moment,
        "membership": membership_at(session, account_id, moment),
        "memberships": [
            {"id": each.id, "title": title_text(each.title)}
            for each in book_at(session, moment).book.memberships.values()
        ],
        "periods": [
            {"name": each.name, "starts_at": each.starts_at, "ends_at": each.ends_at}
            for each in reversed(list_periods(session, account_id))
        ],
        "members": [
            {"id": each.id, "email": each.email, "roles": list(each.roles)}
            for each in list_members(session, account_id)
        ],
        "jobs": newest_jobs(session, account_id),
        "top_ups": [_top_up(each, visitor) for each in open_top_ups(session, account_id)],
        "transfers": [_transfer(each) for each in list_transfers(session, account_id, limit=10)],
        "contracts": _contracts(session, account_id, moment),
        "activity": _activity(session, account_id),
        # Random, so that two payments are two, however soon one follows the other.
        "reference": f"console-{secrets.token_hex(5)}",
        "invitation_link": invitation_link,
        "password_link": password_link,
        "stops": list_stops(session, account_id=account_id, limit=accounts.STOPS_MAX),
        "visible_labels": list(VisibleLabel),
        "default_label": get_settings().visible_label,
        "moderation_levels": list(ModerationLevel),
        "error": error,
        "form": form,
        "done": request.query_params.get("done", ""),
        "may_act": Role.OPERATOR in visitor.roles,
        "may_write": Role.PRICING_AUTHOR in visitor.roles,
    }
    return page(request, "console/account.html", status=error.status if error else 200, title=account.name, **context)


def _top_up(request: TopUpRequest, visitor: Visitor) -> dict[str, Any]:
    """Return a top-up that waits for a second operator."""
    facts = {name: getattr(request, name) for name in ("id", "amount", "kind", "reference", "reason", "requested_at")}
    return {**facts, "is_own": request.requested_by == visitor.caller.person}


def _transfer(transfer: Transfer) -> dict[str, Any]:
    facts = {name: getattr(transfer, name) for name in ("kind", "reason", "at", "job_id")}
    return {**facts, "amount": signed_text(transfer)}


def _facts(account: Account) -> dict[str, Any]:
    names = ("id", "name", "kind", "currency", "concurrency", "queue_limit", "suspended_at", "suspended_reason")
    facts = {name: getattr(account, name) for name in (*names, "visible_label", "moderation_level", "created_at")}
    return {**facts, "label_in_force": policy_of(account)}


def _contracts(session: Session, account_id: str, moment: datetime) -> list[dict[str, Any]]:
    """Return the account's contracts, newest first, each with its state at a moment."""
    return [
        {
            "id": each.id,
            "name": title_text(each.contract.title),
            "state": str(each.state_at(moment)),
            "effective_at": each.effective_at,
        }
        for each in list_contracts(session, account_id)
    ]


def _activity(session: Session, account_id: str) -> list[dict[str, Any]]:
    """Return the newest operator actions on the account, with the names of the operators."""
    entries = list_entries(session, subject=account_id, limit=20)
    names = display_names(session, [entry.actor for entry in entries])
    return [
        {"at": each.at, "action": each.act, "actor": names.get(each.actor, each.actor), "facts": each.facts}
        for each in entries
    ]
