"""Accounts: find one, see its money and films, change its membership and limits, top it up, suspend it."""

import secrets
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import ColumnElement, exists, select, tuple_
from sqlalchemy.orm import Session
from starlette.datastructures import FormData

from app.accounts.accounts import get_account
from app.accounts.members import get_member, list_members
from app.accounts.memberships import list_periods, membership_at, memberships_at
from app.accounts.tables import Account, AccountKind, Member
from app.admin import accounts, money
from app.audit_log.actor import Actor
from app.audit_log.log import list_entries
from app.clock import now
from app.errors import AppError
from app.jobs.tables import Job
from app.parsing import parse_integer
from app.prices.find import book_at, list_contracts
from app.roles import Role
from app.settings import get_settings
from app.wallet.balance import balance, lock_wallet
from app.wallet.funds import list_transfers, signed_amount_text
from app.web.auth import AdminDep, FormDep, OperatorDep, SessionDep, Visitor, text_of
from app.web.console.display_names import names_of
from app.web.forms import NO_FORM, SubmittedForm, parse_form_amount, parse_optional_local_time
from app.web.password_links import sign_in_link
from app.web.render import go, page

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
    """Show the accounts, or those whose name or a member's address holds a word."""
    return _accounts(request, session, visitor, search, after)


@router.post("")
def post_account(request: Request, session: SessionDep, visitor: OperatorDep, form: FormDep) -> Response:
    """Open an account and write a letter to its owner; the letter's address is shown once."""
    try:
        with session.begin_nested():
            actor, kind = Actor.of(visitor.caller), text_of(form, "kind", AccountKind.PREPAID)
            account = accounts.open_account(session, actor, text_of(form, "name"), kind=kind)
            roles = (Role.OWNER, Role.CREATOR)
            _, token = accounts.invite_member(session, actor, account.id, text_of(form, "email"), roles)
    except AppError as error:
        return _accounts(request, session, visitor, "", None, error=error, sent=SubmittedForm(form))
    return account_page(
        request, session, visitor, account.id, letter=f"{get_settings().base_url()}/invitations/{token}"
    )


@router.get("/{account_id}")
def show_account(request: Request, session: SessionDep, visitor: AdminDep, account_id: str) -> Response:
    """Show one account."""
    return account_page(request, session, visitor, account_id)


@router.post("/{account_id}/{act}")
def post_action(
    request: Request, session: SessionDep, visitor: OperatorDep, form: FormDep, account_id: str, act: str
) -> Response:
    """Change an account: its membership, limits, money or suspension. What is refused is said on its page."""
    if act not in _ACTS:
        raise AppError("not_found", "There is no such act.")
    try:
        with session.begin_nested():
            _ACTS[act](session, visitor, form, account_id)
    except AppError as error:
        return account_page(request, session, visitor, account_id, error=error, sent=SubmittedForm(form, act))
    return go(request, f"/admin/accounts/{account_id}?done={act}")


@router.post("/{account_id}/members/{member_id}/link")
def post_link(
    request: Request, session: SessionDep, visitor: OperatorDep, form: FormDep, account_id: str, member_id: str
) -> Response:
    """Give a member who cannot sign in any more a link to a new password; it is shown once, on the account's page."""
    try:
        link = sign_in_link(session, Actor.of(visitor.caller), account_id, member_id)
    except AppError as error:
        return account_page(request, session, visitor, account_id, error=error)
    email = get_member(session, account_id, member_id).email
    return account_page(request, session, visitor, account_id, link={"email": email, "address": link})


def _change_membership(session: Session, visitor: Visitor, form: FormData, account_id: str) -> None:
    """Give the account another membership from now on, until a moment or until somebody ends it."""
    ends_at = parse_optional_local_time(text_of(form, "ends_at"), visitor.zone, "ends_at")
    name = text_of(form, "membership")
    accounts.set_membership(session, Actor.of(visitor.caller), account_id, name, ends_at=ends_at)


def _set_limits(session: Session, visitor: Visitor, form: FormData, account_id: str) -> None:
    """Set the account's own limits; an empty field leaves what the membership says."""
    actor, account = Actor.of(visitor.caller), get_account(session, account_id)
    concurrency, queue_limit = (_whole(text_of(form, name), name) for name in ("concurrency", "queue_limit"))
    # Two actions, so two entries of the audit log: its lock comes last, so the wallet is locked before the first.
    lock_wallet(session, account_id)
    accounts.set_account_limits(session, actor, account_id, concurrency=concurrency, queue_limit=queue_limit)
    credit = parse_form_amount(text_of(form, "credit_limit") or "0", account.currency, "credit_limit")
    if credit != balance(session, account_id).credit_limit:
        money.set_account_credit_limit(session, actor, account_id, credit)


def _top_up(session: Session, visitor: Visitor, form: FormData, account_id: str) -> None:
    """Put money into the account's wallet: paid for, or granted. The same reference again changes nothing."""
    reference = text_of(form, "reference")
    if not reference:
        raise AppError("invalid_request", "Name the payment or the order, so that it counts once.", field="reference")
    money.add_funds(
        session,
        Actor.of(visitor.caller),
        account_id,
        parse_form_amount(text_of(form, "amount"), get_account(session, account_id).currency, "amount", least=1),
        kind=text_of(form, "kind", "granted"),
        reference=reference,
        expires_at=parse_optional_local_time(text_of(form, "expires_at"), visitor.zone, "expires_at"),
        reason=text_of(form, "reason"),
    )


def _suspend(session: Session, visitor: Visitor, form: FormData, account_id: str) -> None:
    """Suspend the account: no new films or keys; what was accepted is finished."""
    accounts.suspend_account(session, Actor.of(visitor.caller), account_id, text_of(form, "reason"))


def _reinstate(session: Session, visitor: Visitor, form: FormData, account_id: str) -> None:
    """End the suspension."""
    accounts.reinstate_account(session, Actor.of(visitor.caller), account_id)


_ACTS: dict[str, Callable[[Session, Visitor, FormData, str], None]] = {
    "membership": _change_membership,
    "limits": _set_limits,
    "top-up": _top_up,
    "suspension": _suspend,
    "reinstatement": _reinstate,
}


def _whole(text: str, field: str) -> int | None:
    number = parse_integer(text)
    if text and number is None:
        raise AppError("invalid_request", f"{field} is a whole number.", field=field, value=text)
    return number


def _accounts(
    request: Request,
    session: Session,
    visitor: Visitor,
    search: str,
    after: str | None,
    *,
    error: AppError | None = None,
    sent: SubmittedForm = NO_FORM,
) -> Response:
    query = select(Account).order_by(Account.created_at, Account.id)
    if search:
        found_by_name = Account.name.icontains(search, autoescape=True) | (Account.id == search)
        query = query.where(found_by_name | _has_member(search))
    last = session.get(Account, after) if after else None
    if last is not None:
        query = query.where(tuple_(Account.created_at, Account.id) > (last.created_at, last.id))
    found = list(session.scalars(query.limit(PAGE + 1)))
    held = memberships_at(session, [each.id for each in found[:PAGE]], now(session))
    rows = [
        {
            "id": each.id,
            "name": each.name,
            "kind": each.kind,
            "membership": held[each.id],
            "is_suspended": each.suspended_at is not None,
            "created_at": each.created_at,
        }
        for each in found[:PAGE]
    ]
    context: dict[str, Any] = {
        "accounts": rows,
        "search": search,
        "more": rows[-1]["id"] if len(found) > PAGE else None,
        "may_act": Role.OPERATOR in visitor.roles,
        "error": error,
        "sent": sent,
    }
    return page(request, "console/accounts.html", status=error.status if error else 200, title="Accounts", **context)


def _has_member(search: str) -> ColumnElement[bool]:
    """Say of an account whether an address that signs in for it holds a word."""
    theirs = (Member.account_id == Account.id) & Member.removed_at.is_(None)
    return exists().where(theirs, Member.email.icontains(search.strip(), autoescape=True))


def account_page(
    request: Request,
    session: Session,
    visitor: Visitor,
    account_id: str,
    *,
    letter: str | None = None,
    link: dict[str, str] | None = None,
    error: AppError | None = None,
    sent: SubmittedForm = NO_FORM,
) -> Response:
    """Return the page of one account, with what was refused on it, if anything."""
    account, moment = get_account(session, account_id), now(session)
    context: dict[str, Any] = {
        "account": _facts(account),
        "wallet": balance(session, account_id),
        "membership": membership_at(session, account_id, moment),
        "memberships": [
            {"id": each.id, "title": each.title.en} for each in book_at(session, moment).book.memberships.values()
        ],
        "periods": [
            {"name": each.name, "starts_at": each.starts_at, "ends_at": each.ends_at}
            for each in reversed(list_periods(session, account_id))
        ],
        "members": [
            {"id": each.id, "email": each.email, "roles": list(each.roles)}
            for each in list_members(session, account_id)
        ],
        "jobs": _newest_jobs(session, account_id),
        "moved": [
            {
                "kind": each.kind,
                "amount": signed_amount_text(each),
                "reason": each.reason,
                "at": each.at,
                "job_id": each.job_id,
            }
            for each in list_transfers(session, account_id, limit=10)
        ],
        "contracts": _contracts(session, account_id, moment),
        "entries": _acts(session, account_id),
        # By chance, so that two payments are two, however soon one follows the other.
        "reference": f"console-{secrets.token_hex(5)}",
        "letter": letter,
        "link": link,
        "error": error,
        "sent": sent,
        "done": request.query_params.get("done", ""),
        "may_act": Role.OPERATOR in visitor.roles,
        "may_write": Role.PRICING_AUTHOR in visitor.roles,
    }
    return page(request, "console/account.html", status=error.status if error else 200, title=account.name, **context)


def _facts(account: Account) -> dict[str, Any]:
    names = ("id", "name", "kind", "currency", "concurrency", "queue_limit", "suspended_at", "suspended_reason")
    return {name: getattr(account, name) for name in (*names, "created_at")}


def _newest_jobs(session: Session, account_id: str) -> list[dict[str, Any]]:
    query = select(Job).where(Job.account_id == account_id).order_by(Job.created_at.desc(), Job.id).limit(10)
    names = ("id", "state", "total", "currency", "created_at", "test")
    return [
        {"prompt": job.prompt.partition("\n")[0], **{name: getattr(job, name) for name in names}}
        for job in session.scalars(query)
    ]


def _contracts(session: Session, account_id: str, moment: datetime) -> list[dict[str, Any]]:
    """Return the account's contracts, newest first, each with its state at a moment."""
    return [
        {
            "id": each.id,
            "name": each.contract.title.en,
            "state": str(each.state_at(moment)),
            "effective_at": each.effective_at,
        }
        for each in list_contracts(session, account_id)
    ]


def _acts(session: Session, account_id: str) -> list[dict[str, Any]]:
    """Return the newest acts of operators on the account, with the names of who did them."""
    entries = list_entries(session, subject=account_id, limit=20)
    names = names_of(session, [entry.actor for entry in entries])
    return [
        {"at": each.at, "act": each.act, "actor": names.get(each.actor, each.actor), "facts": each.facts}
        for each in entries
    ]
