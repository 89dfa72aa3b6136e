"""Accounts: find one, see its money and films, change its membership and limits, top it up, suspend it."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from app.accounts.accounts import create_account, get_account, reinstate, set_limits, suspend
from app.accounts.invitations import invite
from app.accounts.members import list_members
from app.accounts.memberships import change_membership, list_periods, membership_at
from app.accounts.tables import Account, AccountKind
from app.clock import now
from app.errors import AppError
from app.jobs.tables import Job
from app.prices.actor import Actor
from app.prices.find import book_at, list_contracts
from app.prices.trail import list_entries, record
from app.roles import Role
from app.settings import get_settings
from app.wallet.balance import balance, open_wallet, set_credit_limit
from app.wallet.funds import top_up
from app.web.amounts import read_amount
from app.web.console.moments import read_optional_moment, to_local
from app.web.console.people import names_of
from app.web.render import go, page
from app.web.visitor import AdminDep, FormDep, OperatorDep, SessionDep, Visitor, text_of
from pricing.money import Money

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
    """Show the accounts, or those whose name or id holds a word."""
    return _accounts(request, session, visitor, search, after)


@router.post("")
def take_account(request: Request, session: SessionDep, visitor: OperatorDep, form: FormDep) -> Response:
    """Open an account and write a letter to its owner; the letter's address is shown once."""
    try:
        with session.begin_nested():
            account = create_account(session, text_of(form, "name"), kind=text_of(form, "kind", AccountKind.PREPAID))
            open_wallet(session, account.id)
            roles = (Role.OWNER, Role.CREATOR)
            _, token = invite(session, account.id, text_of(form, "email"), roles=roles, by=visitor.caller.person)
            _note(session, visitor, "account.opened", account.id, name=account.name, kind=account.kind)
    except AppError as error:
        return _accounts(request, session, visitor, "", None, error=error)
    return _account(request, session, visitor, account.id, letter=f"{get_settings().base_url()}/invitations/{token}")


@router.get("/{account_id}")
def show_account(request: Request, session: SessionDep, visitor: AdminDep, account_id: str) -> Response:
    """Show one account."""
    return _account(request, session, visitor, account_id)


@router.post("/{account_id}/membership")
def take_membership(
    request: Request, session: SessionDep, visitor: OperatorDep, form: FormDep, account_id: str
) -> Response:
    """Give the account another membership from now on, until a moment or until somebody ends it."""
    name, moment = text_of(form, "membership"), now(session)
    if name not in book_at(session, moment).book.memberships:
        raise AppError("invalid_request", "The price book has no such membership.", field="membership", value=name)
    ends_at = read_optional_moment(text_of(form, "ends_at"), visitor.zone, "ends_at")
    change_membership(session, account_id, name, at=moment, ends_at=ends_at)
    _note(session, visitor, "account.membership_changed", account_id, membership=name, ends_at=str(ends_at or ""))
    return go(request, f"/admin/accounts/{account_id}")


@router.post("/{account_id}/limits")
def take_limits(
    request: Request, session: SessionDep, visitor: OperatorDep, form: FormDep, account_id: str
) -> Response:
    """Set the account's own limits; an empty field leaves what the membership says."""
    limits = {name: _whole(text_of(form, name), name) for name in ("concurrency", "queue_limit")}
    account = set_limits(session, account_id, **limits)
    credit = read_amount(text_of(form, "credit_limit", "0"), account.currency, "credit_limit")
    set_credit_limit(session, account_id, credit)
    _note(
        session, visitor, "account.limits_set", account_id, credit_limit=Money(credit, account.currency).text, **limits
    )
    return go(request, f"/admin/accounts/{account_id}")


@router.post("/{account_id}/top-up")
def take_top_up(
    request: Request, session: SessionDep, visitor: OperatorDep, form: FormDep, account_id: str
) -> Response:
    """Put money into the account's wallet: paid for, or granted. The same reference again changes nothing."""
    account = get_account(session, account_id)
    amount = read_amount(text_of(form, "amount"), account.currency, "amount", least=1)
    kind, reference = text_of(form, "kind", "granted"), text_of(form, "reference")
    if not reference:
        raise AppError("invalid_request", "Name the payment or the order, so that it counts once.", field="reference")
    ends = read_optional_moment(text_of(form, "expires_at"), visitor.zone, "expires_at")
    reason = text_of(form, "reason")
    top_up(session, account_id, amount, kind=kind, reference=reference, expires_at=ends, reason=reason)
    spelled = Money(amount, account.currency).text
    _note(session, visitor, "account.topped_up", account_id, amount=spelled, kind=kind, reference=reference)
    return go(request, f"/admin/accounts/{account_id}")


@router.post("/{account_id}/suspension")
def take_suspension(
    request: Request, session: SessionDep, visitor: OperatorDep, form: FormDep, account_id: str
) -> Response:
    """Suspend the account: no new films or keys; what was accepted is finished."""
    reason = text_of(form, "reason")
    suspend(session, account_id, reason)
    _note(session, visitor, "account.suspended", account_id, reason=reason)
    return go(request, f"/admin/accounts/{account_id}")


@router.post("/{account_id}/reinstatement")
def take_reinstatement(
    request: Request, session: SessionDep, visitor: OperatorDep, form: FormDep, account_id: str
) -> Response:
    """End the suspension."""
    reinstate(session, account_id)
    _note(session, visitor, "account.reinstated", account_id)
    return go(request, f"/admin/accounts/{account_id}")


def _note(session: Session, visitor: Visitor, act: str, subject: str, **facts: Any) -> None:
    record(session, Actor.of(visitor.caller), act, subject, **facts)


def _whole(text: str, field: str) -> int | None:
    if text and not text.isdigit():
        raise AppError("invalid_request", f"{field} is a whole number.", field=field, value=text)
    return int(text) if text else None


def _accounts(
    request: Request,
    session: Session,
    visitor: Visitor,
    search: str,
    after: str | None,
    *,
    error: AppError | None = None,
) -> Response:
    query = select(Account).order_by(Account.created_at, Account.id)
    if search:
        query = query.where(Account.name.icontains(search, autoescape=True) | (Account.id == search))
    last = session.get(Account, after) if after else None
    if last is not None:
        query = query.where(tuple_(Account.created_at, Account.id) > (last.created_at, last.id))
    found = list(session.scalars(query.limit(PAGE + 1)))
    moment = now(session)
    rows = [
        {
            "id": each.id,
            "name": each.name,
            "kind": each.kind,
            "membership": membership_at(session, each.id, moment),
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
    }
    return page(request, "console/accounts.html", status=error.status if error else 200, title="Accounts", **context)


def _account(
    request: Request, session: Session, visitor: Visitor, account_id: str, *, letter: str | None = None
) -> Response:
    account, moment = get_account(session, account_id), now(session)
    entries = list_entries(session, subject=account_id, limit=20)
    names = names_of(session, [entry.actor for entry in entries])
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
        "members": [{"email": each.email, "roles": list(each.roles)} for each in list_members(session, account_id)],
        "jobs": _newest_jobs(session, account_id),
        "contracts": [
            {
                "id": each.id,
                "name": each.contract.title.en,
                "state": str(each.state_at(moment)),
                "effective_at": each.effective_at,
            }
            for each in list_contracts(session, account_id)
        ],
        "entries": [
            {"at": each.at, "act": each.act, "actor": names.get(each.actor, each.actor), "facts": each.facts}
            for each in entries
        ],
        "reference": f"console-{to_local(moment, visitor.zone)}",
        "letter": letter,
        "may_act": Role.OPERATOR in visitor.roles,
        "may_write": Role.PRICING_AUTHOR in visitor.roles,
    }
    return page(request, "console/account.html", title=account.name, **context)


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
