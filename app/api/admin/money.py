"""Wallet routes: balance, top-ups, credit limit, corrections, refunds and transfers."""

from datetime import datetime
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.accounts.accounts import get_account
from app.admin import money
from app.admin.money import parse_amount
from app.admin.tables import TopUpRequest
from app.admin.top_ups import TopUp, add_funds
from app.api.admin.access import AdminCaller, After, Limit, OperatorCaller
from app.api.admin.schemas import CorrectionIn, CreditLimitIn, LowBalanceIn, RefundIn, TopUpIn
from app.audit_log.actor import Actor
from app.errors import not_found
from app.request_session import SessionDep
from app.wallet.balance import Balance, balance
from app.wallet.funds import list_transfers, signed_text
from app.wallet.tables import Transfer
from pricing.money import Money

router = APIRouter(prefix="/v1/admin/accounts/{account_id}", tags=["admin: money"])


class AdminWalletOut(BaseModel):
    """A wallet, as decimal strings: its balance (`posted`), what open jobs hold (`held`), and the rest.

    `available` is what a new job may spend now, including the credit limit; the customer sees the same value.
    """

    object: Literal["wallet"] = "wallet"
    account: str
    currency: str
    posted: str
    held: str
    available: str
    credit_limit: str
    granted: str
    purchased: str
    next_expiry_at: datetime | None
    next_expiry_amount: str
    low_balance: str | None


class TransferOut(BaseModel):
    """One transfer of money to or from a wallet. A negative amount left the wallet."""

    id: str
    object: Literal["transfer"] = "transfer"
    account: str
    kind: str
    amount: str
    currency: str
    video: str | None
    reference: str
    reason: str
    at: datetime


class TopUpRequestOut(BaseModel):
    """A top-up above the ceiling that waits for a second operator."""

    id: str
    object: Literal["top_up_request"] = "top_up_request"
    account: str
    state: str
    amount: str
    currency: str
    kind: str
    reference: str
    reason: str
    expires_at: datetime | None
    requested_at: datetime


class TransferPage(BaseModel):
    """A page of transfers, newest first."""

    object: Literal["list"] = "list"
    data: list[TransferOut]
    last_id: str | None
    has_more: bool


@router.get("/wallet")
def get_account_wallet(session: SessionDep, caller: AdminCaller, account_id: str) -> AdminWalletOut:
    """Return an account's wallet."""
    return _wallet(balance(session, account_id))


@router.get("/transfers")
def list_account_transfers(
    session: SessionDep, caller: AdminCaller, account_id: str, after: After = None, limit: Limit = 50
) -> TransferPage:
    """List an account's transfers, newest first."""
    before = None
    if after is not None:
        last = session.get(Transfer, after)
        if last is None or last.account_id != account_id:
            raise not_found("transfer", after)
        before = (last.at, last.id)
    rows = list_transfers(session, account_id, before=before, limit=limit + 1)
    data = [_transfer(each) for each in rows[:limit]]
    return TransferPage(data=data, last_id=data[-1].id if data else None, has_more=len(rows) > limit)


@router.post("/top_ups", status_code=201)
def top_up_account(
    response: Response, session: SessionDep, caller: OperatorCaller, account_id: str, body: TopUpIn
) -> TransferOut | TopUpRequestOut:
    """Add money to a wallet as a credit lot of its own. A repeated reference does nothing new.

    Above the ceiling (CINEMETER_TOP_UP_MAX) it answers 202, and the money is added when a second operator sends the
    same top-up or approves it in the console. A sole operator needs no second one.
    """
    order = TopUp(**{**dict(body), "amount": parse_amount(session, account_id, body.amount)})
    added = add_funds(session, Actor.of(caller), account_id, order)
    if isinstance(added, Transfer):
        return _transfer(added)
    response.status_code = 202
    return _top_up_request(session, added)


@router.post("/corrections", status_code=201)
def correct_account_balance(
    session: SessionDep, caller: OperatorCaller, account_id: str, body: CorrectionIn
) -> TransferOut:
    """Correct a balance: a positive amount adds money, a negative amount removes it."""
    amount = parse_amount(session, account_id, body.amount)
    transfer = money.correct_balance(
        session,
        Actor.of(caller),
        account_id,
        amount,
        reference=body.reference,
        reason=body.reason,
        job_id=body.video,
    )
    return _transfer(transfer)


@router.post("/refunds", status_code=201)
def refund_account_video(session: SessionDep, caller: OperatorCaller, account_id: str, body: RefundIn) -> TransferOut:
    """Refund part or all of a video's charge."""
    amount = parse_amount(session, account_id, body.amount)
    transfer = money.refund_job(
        session,
        Actor.of(caller),
        account_id,
        body.video,
        amount,
        reference=body.reference,
        reason=body.reason,
    )
    return _transfer(transfer)


@router.put("/credit_limit")
def set_account_credit_limit(
    session: SessionDep, caller: OperatorCaller, account_id: str, body: CreditLimitIn
) -> AdminWalletOut:
    """Set how far below zero new jobs may take the balance. Open holds are not affected."""
    amount = parse_amount(session, account_id, body.amount)
    money.set_account_credit_limit(session, Actor.of(caller), account_id, amount)
    return _wallet(balance(session, account_id))


@router.put("/low_balance")
def set_account_low_balance(
    session: SessionDep, caller: OperatorCaller, account_id: str, body: LowBalanceIn
) -> AdminWalletOut:
    """Set the balance below which the owner is notified; null turns it off."""
    amount = None if body.amount is None else parse_amount(session, account_id, body.amount)
    money.set_low_balance_alert(session, Actor.of(caller), account_id, amount)
    return _wallet(balance(session, account_id))


def _wallet(wallet: Balance) -> AdminWalletOut:
    amounts = ("posted", "held", "available", "credit_limit", "granted", "purchased", "next_expiry_amount")
    return AdminWalletOut(
        account=wallet.account_id,
        currency=wallet.currency,
        next_expiry_at=wallet.next_expiry_at,
        low_balance=None if wallet.low_balance is None else Money(wallet.low_balance, wallet.currency).text,
        **{name: Money(getattr(wallet, name), wallet.currency).text for name in amounts},
    )


def _top_up_request(session: Session, request: TopUpRequest) -> TopUpRequestOut:
    currency = get_account(session, request.account_id).currency
    names = ("id", "state", "kind", "reference", "reason", "expires_at", "requested_at")
    return TopUpRequestOut(
        account=request.account_id,
        amount=Money(request.amount, currency).text,
        currency=currency,
        **{name: getattr(request, name) for name in names},
    )


def _transfer(transfer: Transfer) -> TransferOut:
    # A stored reference starts with its kind and account; the caller's reference follows them.
    return TransferOut(
        id=transfer.id,
        account=transfer.account_id,
        kind=transfer.kind,
        amount=signed_text(transfer),
        currency=transfer.currency,
        video=transfer.job_id,
        reference=transfer.reference.split(":", 2)[-1],
        reason=transfer.reason,
        at=transfer.at,
    )
