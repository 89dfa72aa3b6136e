"""Billing routes for customers: the wallet and receipts."""

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel
from sqlalchemy import select, tuple_

from app.api.access import BillingCaller
from app.jobs.find import receipt_after
from app.jobs.tables import Job, ReceiptRow
from app.request_session import SessionDep
from app.wallet.balance import balance
from pricing.money import Money

router = APIRouter(prefix="/v1", tags=["billing"])


class WalletOut(BaseModel):
    """An account's wallet, as decimal strings: its balance (`posted`), what open jobs hold (`held`), and the rest.

    `available` is what a new job may spend now, including the credit limit.
    """

    object: Literal["wallet"] = "wallet"
    currency: str
    posted: str
    held: str
    available: str
    credit_limit: str


class ReceiptListOut(BaseModel):
    """A page of receipts, newest first."""

    object: Literal["list"] = "list"
    data: list[dict[str, Any]]
    last_id: str | None
    has_more: bool


@router.get("/wallet")
def get_wallet(session: SessionDep, caller: BillingCaller) -> WalletOut:
    """Return the caller's wallet. Live and test keys see the same wallet; test jobs never change it."""
    wallet = balance(session, caller.account_id)
    currency = wallet.currency
    return WalletOut(
        currency=currency,
        posted=Money(wallet.posted, currency).text,
        held=Money(wallet.held, currency).text,
        available=Money(wallet.available, currency).text,
        credit_limit=Money(wallet.credit_limit, currency).text,
    )


@router.get("/receipts")
def list_receipts(
    session: SessionDep,
    caller: BillingCaller,
    after: Annotated[str | None, Query(max_length=64)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> ReceiptListOut:
    """List the receipts of the caller's account, newest first. `after` is the video id of the last one seen."""
    position = tuple_(ReceiptRow.settled_at, ReceiptRow.job_id)
    query = (
        select(ReceiptRow, Job.test)
        .join(Job, Job.id == ReceiptRow.job_id)
        .where(ReceiptRow.account_id == caller.account_id, Job.test == caller.test)
        .order_by(ReceiptRow.settled_at.desc(), ReceiptRow.job_id.desc())
    )
    if caller.project_id is not None:
        query = query.where(ReceiptRow.project_id == caller.project_id)
    if after is not None:
        last = receipt_after(session, caller, after)
        query = query.where(position < tuple_(last.settled_at, last.job_id))
    rows = session.execute(query.limit(limit + 1)).all()
    data = [
        {"object": "video.receipt", "number": row.number, "video": row.job_id, "test": test, **json.loads(row.body)}
        for row, test in rows[:limit]
    ]
    return ReceiptListOut(data=data, last_id=data[-1]["video"] if data else None, has_more=len(rows) > limit)
