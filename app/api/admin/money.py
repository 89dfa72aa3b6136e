"""Routes of customers' money: the wallet, top-ups, credit limit, corrections, refunds and transfers."""

from datetime import datetime
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from app.admin import money
from app.admin.money import parse_amount
from app.api.access import SessionDep
from app.api.admin.access import AdminCaller, After, Limit, OperatorCaller
from app.api.admin.schemas import CorrectionIn, CreditLimitIn, LowBalanceIn, RefundIn, TopUpIn
from app.audit_log.actor import Actor
from app.errors import not_found
from app.wallet.balance import Balance, balance
from app.wallet.funds import list_transfers, signed_text
from app.wallet.tables import Transfer
from pricing.money import Money

router = APIRouter(prefix="/v1/admin/accounts/{account_id}", tags=["admin: money"])


class AdminWalletOut(BaseModel):
    """A wallet: its balance (`posted`), what open jobs hold, and what it may still spend. Money is a decimal string.

    `available` is what a new job may take now, the credit limit included, as the customer reads it too.
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
    """Money that moved, once: negative where the wallet gave."""

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


class TransferPage(BaseModel):
    """A page of transfers, newest first."""

    object: Literal["list"] = "list"
    data: list[TransferOut]
    last_id: str | None
    has_more: bool


@router.get("/wallet")
def read_account_wallet(session: SessionDep, caller: AdminCaller, account_id: str) -> AdminWalletOut:
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
    found = list_transfers(session, account_id, before=before, limit=limit + 1)
    data = [_transfer(each) for each in found[:limit]]
    return TransferPage(data=data, last_id=data[-1].id if data else None, has_more=len(found) > limit)


@router.post("/top_ups", status_code=201)
def top_up_account(session: SessionDep, caller: OperatorCaller, account_id: str, asked: TopUpIn) -> TransferOut:
    """Put money into a wallet as a credit lot of its own. The same reference again is the same order."""
    amount = parse_amount(session, account_id, asked.amount)
    done = money.add_funds(
        session,
        Actor.of(caller),
        account_id,
        amount,
        kind=asked.kind,
        reference=asked.reference,
        expires_at=asked.expires_at,
        reason=asked.reason,
    )
    return _transfer(done)


@router.post("/corrections", status_code=201)
def correct_account(session: SessionDep, caller: OperatorCaller, account_id: str, asked: CorrectionIn) -> TransferOut:
    """Put a wallet right: a positive amount gives, a negative one takes."""
    amount = parse_amount(session, account_id, asked.amount)
    done = money.correct_balance(
        session,
        Actor.of(caller),
        account_id,
        amount,
        reference=asked.reference,
        reason=asked.reason,
        job_id=asked.video,
    )
    return _transfer(done)


@router.post("/refunds", status_code=201)
def refund_account(session: SessionDep, caller: OperatorCaller, account_id: str, asked: RefundIn) -> TransferOut:
    """Give back part or all of what a video was charged."""
    amount = parse_amount(session, account_id, asked.amount)
    done = money.refund_job(
        session,
        Actor.of(caller),
        account_id,
        asked.video,
        amount,
        reference=asked.reference,
        reason=asked.reason,
    )
    return _transfer(done)


@router.put("/credit_limit")
def limit_account_credit(
    session: SessionDep, caller: OperatorCaller, account_id: str, asked: CreditLimitIn
) -> AdminWalletOut:
    """Set how far below zero new jobs may take the wallet. Open holds stay as they are."""
    amount = parse_amount(session, account_id, asked.amount)
    money.set_account_credit_limit(session, Actor.of(caller), account_id, amount)
    return _wallet(balance(session, account_id))


@router.put("/low_balance")
def warn_account_below(
    session: SessionDep, caller: OperatorCaller, account_id: str, asked: LowBalanceIn
) -> AdminWalletOut:
    """Set below what the owner is told; null: never."""
    amount = None if asked.amount is None else parse_amount(session, account_id, asked.amount)
    money.set_low_balance_alert(session, Actor.of(caller), account_id, amount)
    return _wallet(balance(session, account_id))


def _wallet(has: Balance) -> AdminWalletOut:
    amounts = ("posted", "held", "available", "credit_limit", "granted", "purchased", "next_expiry_amount")
    return AdminWalletOut(
        account=has.account_id,
        currency=has.currency,
        next_expiry_at=has.next_expiry_at,
        low_balance=None if has.low_balance is None else Money(has.low_balance, has.currency).text,
        **{name: Money(getattr(has, name), has.currency).text for name in amounts},
    )


def _transfer(transfer: Transfer) -> TransferOut:
    # A stored reference begins with its kind and account; what the caller gave follows them.
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
