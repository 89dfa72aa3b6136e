"""Contracts: the agreed rates of single accounts. They have the lifecycle of price books."""

import json
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session

from app.accounts.accounts import get_account
from app.accounts.tables import Account
from app.audit_log.actor import Actor
from app.audit_log.log import list_entries
from app.audit_log.values import shown_facts
from app.clock import now
from app.errors import AppError
from app.prices.contracts import (
    approve_contract,
    draft_contract,
    edit_contract,
    end_contract,
    schedule_contract,
    withdraw_contract,
)
from app.prices.find import book_at, contract_by_id, list_contracts, newest_contract
from app.prices.tables import PriceDocumentState, StoredContract
from app.reports.display_names import display_names
from app.roles import Role
from app.web.auth import AdminDep, AuthorDep, FormDep, SessionDep, Visitor, text_of
from app.web.console.draft_preview import preview_contract
from app.web.console.schedule_review import PriceChange, ScheduleReview, review_page
from app.web.forms import parse_local_time, parse_optional_local_time, to_local
from app.web.language import gettext, title_text
from app.web.render import page, redirect

router = APIRouter(prefix="/admin", include_in_schema=False)

TONES = {"draft": "info", "approved": "busy", "scheduled": "busy", "published": "good", "withdrawn": ""}
_TEMPLATE = """# The agreed rates of one account. Each replaces the list rate that it matches; other list rates stay.
# It starts from the present list rates, with membership and promotions: nothing is agreed until you change a rate.
format = 1
name = "agreed-rates"
title = {{ en = "Agreed rates", zh = "协议价" }}
currency = "{currency}"
membership_applies = true   # whether the membership's factor also applies to an agreed rate
promotions_apply = true
"""


@router.get("/contracts")
def show_contracts(request: Request, session: SessionDep, visitor: AdminDep) -> Response:
    """Show all contracts."""
    moment = now(session)
    contracts = list_contracts(session)
    names = display_names(
        session, [each for contract in contracts for each in (contract.account_id, contract.author, contract.approver)]
    )
    rows = [_row(each, names, moment) for each in contracts]
    return page(request, "console/contracts.html", title=gettext("Contracts"), contracts=rows, tones=TONES)


@router.get("/accounts/{account_id}/contracts/new")
def show_new(request: Request, session: SessionDep, visitor: AuthorDep, account_id: str) -> Response:
    """Show the form for an account's new contract, filled with its newest one."""
    account, base = get_account(session, account_id), newest_contract(session, account_id)
    toml = base.toml if base else _present_rates(session, account)
    return _edit(request, session, f"/admin/accounts/{account_id}/contracts", account, toml, "")


@router.post("/accounts/{account_id}/contracts")
def post_draft(request: Request, session: SessionDep, visitor: AuthorDep, form: FormDep, account_id: str) -> Response:
    """Save an account's new contract as a draft."""
    toml, note = _text(form), text_of(form, "note")
    try:
        with session.begin_nested():
            contract = draft_contract(session, Actor.of(visitor.caller), account_id, toml, note=note)
    except AppError as error:
        account = get_account(session, account_id)
        return _edit(request, session, request.url.path, account, toml, note, error=error)
    return redirect(request, f"/admin/contracts/{contract.id}")


@router.post("/contracts/check")
def show_check(request: Request, session: SessionDep, visitor: AuthorDep, form: FormDep) -> Response:
    """Return the preview beside the text: problems, or the price per second without and with the contract."""
    account_id = get_account(session, text_of(form, "account")).id
    return page(request, "console/contract_check.html", **preview_contract(session, _text(form), account_id))


@router.get("/contracts/{contract_id}")
def show_contract(request: Request, session: SessionDep, visitor: AdminDep, contract_id: str) -> Response:
    """Show one contract: rates, state, history and possible actions."""
    return _contract(request, session, visitor, contract_id)


@router.get("/contracts/{contract_id}/edit")
def show_edit(request: Request, session: SessionDep, visitor: AuthorDep, contract_id: str) -> Response:
    """Show the form for editing a draft."""
    contract = contract_by_id(session, contract_id)
    account = get_account(session, contract.account_id)
    return _edit(request, session, request.url.path, account, contract.toml, contract.note)


@router.post("/contracts/{contract_id}/edit")
def post_edit(request: Request, session: SessionDep, visitor: AuthorDep, form: FormDep, contract_id: str) -> Response:
    """Replace a draft's text."""
    toml, note = _text(form), text_of(form, "note")
    try:
        with session.begin_nested():
            edit_contract(session, Actor.of(visitor.caller), contract_id, toml, note=note)
    except AppError as error:
        account = get_account(session, contract_by_id(session, contract_id).account_id)
        return _edit(request, session, request.url.path, account, toml, note, error=error)
    return redirect(request, f"/admin/contracts/{contract_id}")


@router.post("/contracts/{contract_id}/{action}")
def post_action(
    request: Request, session: SessionDep, visitor: AdminDep, form: FormDep, contract_id: str, action: str
) -> Response:
    """Approve, schedule, withdraw or end a contract. Scheduling leads to the review page first."""
    is_review = action == "publication" and not text_of(form, "sure")
    try:
        with session.begin_nested() as change:
            _apply(session, visitor, contract_id, action, form)
            if is_review:
                change.rollback()
    except AppError as error:
        return _contract(request, session, visitor, contract_id, error=error)
    if is_review:
        return _review(request, session, visitor, contract_id, text_of(form, "effective_at"))
    return redirect(request, f"/admin/contracts/{contract_id}")


def _apply(session: Session, visitor: Visitor, contract_id: str, action: str, form: Any) -> None:
    actor, zone, reason = Actor.of(visitor.caller), visitor.zone, text_of(form, "reason")
    if action == "approval":
        approve_contract(session, actor, contract_id, content_hash=text_of(form, "content_hash"))
    elif action == "publication":
        at = parse_optional_local_time(text_of(form, "effective_at"), zone, "effective_at")
        schedule_contract(session, actor, contract_id, at)
    elif action == "withdrawal":
        withdraw_contract(session, actor, contract_id, reason=reason)
    elif action == "end":
        end_contract(session, actor, contract_id, parse_local_time(text_of(form, "at"), zone, "at"), reason=reason)
    else:
        raise AppError("not_found", "Unknown action.")


def _present_rates(session: Session, account: Account) -> str:
    """Return a contract under which the account pays exactly what it pays now: the rates of the book in force."""
    rates = [rate.content() for rate in book_at(session, now(session)).book.rates]
    tables = [
        "".join(f"{name} = {json.dumps(value)}\n" for name, value in each.items() if value != "*") for each in rates
    ]
    return "\n[[rates]]\n".join((_TEMPLATE.format(currency=account.currency), *tables))


def _review(request: Request, session: Session, visitor: Visitor, contract_id: str, effective_at: str) -> Response:
    """Return the page that shows what a scheduled contract changes, before it is scheduled."""
    stored = contract_by_id(session, contract_id)
    at = parse_optional_local_time(effective_at, visitor.zone, "effective_at") or now(session)
    account = get_account(session, stored.account_id).name
    rows = [
        PriceChange(each["what"], each["before"], each["after"])
        for each in preview_contract(session, stored.toml, stored.account_id)["figures"]
        if each["before"] != each["after"]
    ]
    back = f"/admin/contracts/{contract_id}"
    review = ScheduleReview(gettext("Schedule contract"), at, account, rows, f"{back}/publication", back, effective_at)
    return review_page(request, review)


def _text(form: Any) -> str:
    return str(form.get("toml") or "").replace("\r\n", "\n")


def _edit(
    request: Request,
    session: Session,
    action: str,
    account: Account,
    toml: str,
    note: str,
    *,
    error: AppError | None = None,
) -> Response:
    fields: dict[str, Any] = {"account_id": account.id, "account": account.name, "toml": toml, "note": note}
    checked = preview_contract(session, toml, account.id)
    status = error.status if error else 200
    context = {"action": action, "error": error, **fields, **checked}
    return page(request, "console/contract_edit.html", status=status, title=gettext("Contract"), **context)


def _contract(
    request: Request, session: Session, visitor: Visitor, contract_id: str, *, error: AppError | None = None
) -> Response:
    stored, moment = contract_by_id(session, contract_id), now(session)
    entries = list_entries(session, subject=contract_id, limit=20)
    actors, facts = [entry.actor for entry in entries], shown_facts(session, entries)
    names = display_names(session, [stored.account_id, stored.author, stored.approver, *actors])
    state, is_author = stored.state_at(moment), stored.author == visitor.caller.person
    may_approve = Role.PRICING_APPROVER in visitor.roles
    may_act = may_approve or Role.PRICING_AUTHOR in visitor.roles
    context: dict[str, Any] = {
        "contract": _row(stored, names, moment),
        "rates": [
            {"id": each.id, "applies_to": each.content(), "per_second": f"{each.per_second:f}"}
            for each in stored.contract.rates
        ],
        "toml": stored.toml,
        "tones": TONES,
        "entries": [
            {"at": each.at, "action": each.act, "actor": names.get(each.actor, each.actor), "facts": facts[each.number]}
            for each in entries
        ],
        "may_edit": state is PriceDocumentState.DRAFT and is_author and Role.PRICING_AUTHOR in visitor.roles,
        "may_approve": state is PriceDocumentState.DRAFT and may_approve,
        "may_schedule": state is PriceDocumentState.APPROVED and may_act,
        "may_withdraw": state not in (PriceDocumentState.PUBLISHED, PriceDocumentState.WITHDRAWN) and may_act,
        "may_end": state is PriceDocumentState.PUBLISHED and stored.ends_at is None and may_approve,
        "soon": to_local(moment, visitor.zone, ahead_minutes=60),
        "error": error,
    }
    return page(
        request, "console/contract.html", status=error.status if error else 200, title=gettext("Contract"), **context
    )


def _row(stored: StoredContract, names: dict[str, str], moment: Any) -> dict[str, Any]:
    return {
        "id": stored.id,
        "account_id": stored.account_id,
        "account": names.get(stored.account_id, stored.account_id),
        "title": title_text(stored.contract.title),
        "currency": stored.contract.currency,
        "membership_applies": stored.contract.membership_applies,
        "promotions_apply": stored.contract.promotions_apply,
        "state": str(stored.state_at(moment)),
        "note": stored.note,
        "author": names.get(stored.author, stored.author),
        "approver": names.get(stored.approver or "", stored.approver),
        "content_hash": stored.content_hash,
        "effective_at": stored.effective_at,
        "ends_at": stored.ends_at,
    }
