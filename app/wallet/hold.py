"""Two-phase holds: money is reserved when a job is accepted, and captured or released once, when it ends."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, bindparam, or_, select, update
from sqlalchemy.orm import Session

from app.accounts.accounts import get_account
from app.accounts.billing_periods import billing_month
from app.clock import now
from app.db import Base, Moment, new_id
from app.errors import AppError, not_found
from app.sql_statements import loaded, sql_file
from app.wallet.balance import available_now, decimal_text, reset_low_balance
from app.wallet.budgets import above_cap, budget_exceeded
from app.wallet.committed_spend import CommittedSpends, committed_spends
from app.wallet.lots import expire_lots, pin, unpin
from app.wallet.tables import INTERNAL_ACCOUNT, BudgetScope, Hold, HoldState, Transfer, TransferKind, Wallet
from app.wallet.transfer import wallet_side
from pricing.money import require_integer

# Built once, and on the table: building it for each hold took an eighth of the processor time of the whole.
_HOLD_IN_WALLET = (
    update(Base.metadata.tables["wallets"])
    .where(
        Wallet.account_id == bindparam("wallet"),
        # A hold of nothing (a test job, a film in free seconds) succeeds even with a negative balance.
        or_(
            bindparam("wanted", type_=BigInteger) == 0,
            available_now(bindparam("moment", type_=Moment)) >= bindparam("wanted", type_=BigInteger),
        ),
    )
    .values(held=Wallet.held + bindparam("wanted", type_=BigInteger))
    .returning(Wallet.account_id)
)


_HOLD = sql_file("app.wallet", "hold.sql")
_RESOLVE_HOLD = sql_file("app.wallet", "resolve_hold.sql")
_SETTLE_WALLET = sql_file("app.wallet", "settle_wallet.sql")


class PlacedHolds(NamedTuple):
    """Holds that were placed, whether they may have taken the wallet below the balance that its owner watches.

    `spends` is what is committed with them. `alert_used` is what is held and spent in the project's month, in minor
    units, where that comes to the amount of its alert and nobody was told this month; else None.
    """

    ids: tuple[str, ...]
    is_low: bool
    spends: CommittedSpends
    alert_used: int | None


class InsufficientFunds(AppError):
    """The wallet has too little for a hold. `spends` is what was committed before; not every caller may see it."""

    def __init__(self, price: int, spends: CommittedSpends) -> None:
        wallet = spends.wallet
        currency = wallet.currency
        super().__init__(
            "insufficient_funds",
            "The wallet cannot hold the price of this job.",
            price=decimal_text(price, currency),
            available=decimal_text(wallet.remaining, currency),
            currency=currency,
        )
        self.spends = spends


class HoldResolved(AppError):
    """The hold has been resolved before; `state` says how. Nothing was moved now."""

    def __init__(self, hold: Hold) -> None:
        super().__init__(
            "conflict", f"The hold of this job is {hold.state} already.", state=hold.state, job=hold.job_id
        )
        self.state = HoldState(hold.state)


def hold(
    session: Session,
    *,
    account_id: str,
    job_id: str,
    amount: int,
    project_id: str | None = None,
    key_id: str | None = None,
) -> Hold:
    """Set an amount aside for a job, as `place_holds` does, and return its hold."""
    account = get_account(session, account_id)
    month = billing_month(account.billing_zone, now(session))
    terms: dict[str, Any] = {"account_id": account_id, "project_id": project_id, "key_id": key_id, "month": month}
    placed = place_holds(session, {job_id: amount}, **terms, currency=account.currency)
    rest = {"captured_amount": 0, "created_at": now(session), "resolved_at": None}
    return loaded(
        session, Hold, id=placed.ids[0], job_id=job_id, amount=amount, state=str(HoldState.HELD), **terms, **rest
    )


def place_holds(
    session: Session,
    amounts: Mapping[str, int],
    *,
    account_id: str,
    month: str,
    currency: str,
    project_id: str | None = None,
    key_id: str | None = None,
) -> PlacedHolds:
    """Set amounts aside for jobs that are ordered together: in the key's budget, the project's, and in the wallet.

    All of them or none. When it raises, the transaction must be rolled back: part of it may have been written.

    `amounts`: minor units by job, 0 or more; a free job has a hold of nothing, and a job has one hold in its life.
    `account_id`: whose wallet, which is kept in `currency`. `month`: the billing month of now. `project_id`: the
    project in whose month they count, if any. `key_id`: the key in whose life they count, if any.

    Raises TypeError, ValueError for an amount that is not whole or negative. Raises InsufficientFunds, and AppError
    `budget_exceeded`, `price_above_cap`; `conflict` if a job has a hold.
    """
    holds = [(new_id("hold"), job_id, require_integer(amount)) for job_id, amount in amounts.items()]
    total = sum(amount for _, _, amount in holds)
    inputs = {
        "holds": json.dumps(holds),
        "account_id": account_id,
        "amount": total,
        "largest": max(amount for _, _, amount in holds),
        "month": month,
        "project_id": project_id,
        "key_id": key_id,
        "key_budget_id": new_id("budget"),
        "project_budget_id": new_id("budget"),
        "now": now(session),
    }
    outcome = _HOLD.run(session, inputs).one()
    if not outcome.is_new:
        raise AppError("conflict", "This job has a hold already.", job=holds[0][1])
    _check_budgets(session, inputs, outcome, currency)
    is_low = outcome.is_low
    if not outcome.fits_wallet:
        # Expired credit that is not booked yet may have been counted twice against it; book it and try again.
        expire_lots(session, account_id)
        facts = {"wallet": account_id, "wanted": total, "moment": now(session)}
        if session.execute(_HOLD_IN_WALLET, facts).one_or_none() is None:
            spends = committed_spends(session, account_id, outcome, currency, refused=total)
            raise InsufficientFunds(total, spends)
        is_low = True
    if total:
        pin(session, account_id, {hold_id: amount for hold_id, _, amount in holds if amount})
    spends = committed_spends(session, account_id, outcome, currency)
    alert_used = outcome.project_used if outcome.passes_alert else None
    return PlacedHolds(tuple(hold_id for hold_id, _, _ in holds), is_low, spends, alert_used)


def _check_budgets(session: Session, inputs: dict[str, Any], outcome: Any, currency: str) -> None:
    """Raise AppError `price_above_cap` or `budget_exceeded` where the key or the project did not allow the hold."""
    terms: dict[str, Any] = {"amount": inputs["amount"], "currency": currency}
    if inputs["key_id"] is not None and not outcome.fits_key:
        if outcome.job_cap is not None and inputs["largest"] > outcome.job_cap:
            raise above_cap(inputs["largest"], outcome.job_cap, currency)
        limit = outcome.budget_total or 0
        raise budget_exceeded(session, BudgetScope.KEY, outcome.lineage, "", limit=limit, **terms)
    if inputs["project_id"] is not None and not outcome.fits_project:
        project_id, month, limit = inputs["project_id"], inputs["month"], outcome.budget_month or 0
        raise budget_exceeded(session, BudgetScope.PROJECT, project_id, month, limit=limit, **terms)


def capture(session: Session, job_id: str, amount: int, *, ours: bool = False) -> Transfer | None:
    """Capture up to the held amount for a job, and release the rest; return the transfer, or None for an amount of 0.

    The job's receipt gets the next number of its account.

    `ours` says that the rest is released through a fault of ours, so that no credit of the customer's expires by it.

    Raises HoldResolved the second time, saying how it was resolved the first time. Raises ValueError above the held
    amount, AppError `not_found`.
    """
    return _resolve(session, job_id, HoldState.CAPTURED, require_integer(amount), ours=ours)[1]


def release(session: Session, job_id: str, *, ours: bool = True, test: bool = False) -> Hold:
    """Release a whole hold: the job failed, expired, or was cancelled with nothing to bill.

    The job's receipt gets the next number of its account; with `test` that of its test jobs.
    `ours` False (a cancel) lets credit that expired under the hold stay expired.

    Raises HoldResolved the second time, saying how it was resolved the first time, AppError `not_found`.
    """
    return _resolve(session, job_id, HoldState.RELEASED, 0, ours=ours, test=test)[0]


def get_hold(session: Session, job_id: str) -> Hold:
    """Return the hold of a job. Raises `not_found`."""
    row = session.scalar(select(Hold).where(Hold.job_id == job_id).execution_options(populate_existing=True))
    if row is None:
        raise not_found("hold", job_id)
    return row


def _resolve(
    session: Session, job_id: str, state: HoldState, amount: int, *, ours: bool, test: bool = False
) -> tuple[Hold, Transfer | None]:
    """Resolve a hold: budgets, transfer, wallet and credit lots. Returns it, and the transfer of a captured amount."""
    moment, transfer_id = now(session), new_id("transfer")
    inputs = {"job_id": job_id, "state": str(state), "spent": amount, "now": moment, "transfer_id": transfer_id}
    row = _RESOLVE_HOLD.run(session, inputs).one_or_none()
    if row is None:
        existing = get_hold(session, job_id)
        if existing.state != HoldState.HELD:
            raise HoldResolved(existing)
        raise ValueError(f"{amount} is more than the {existing.amount} that is held for {job_id}")
    resolved = loaded(
        session,
        Hold,
        id=row.id,
        job_id=job_id,
        account_id=row.account_id,
        project_id=row.project_id,
        key_id=row.key_id,
        month=row.month,
        amount=row.amount,
        state=str(state),
        captured_amount=amount,
        resolved_at=moment,
    )
    change = {"account_id": row.account_id, "job_id": job_id, "spent": amount, "held": row.amount, "test": test}
    is_told_low = _SETTLE_WALLET.run(session, change).one().is_told_low
    unpin(session, resolved, amount, transfer_id if amount else None, ours=ours)
    if is_told_low:
        reset_low_balance(session, row.account_id)
    return resolved, _captured(session, resolved, transfer_id, row.currency) if amount else None


def _captured(session: Session, resolved: Hold, transfer_id: str, currency: str) -> Transfer:
    """Return the transfer that resolve_hold.sql has written for a captured hold."""
    return loaded(
        session,
        Transfer,
        id=transfer_id,
        account_id=resolved.account_id,
        debit=wallet_side(resolved.account_id),
        credit=INTERNAL_ACCOUNT[TransferKind.CAPTURE],
        amount=resolved.captured_amount,
        currency=currency,
        kind=str(TransferKind.CAPTURE),
        job_id=resolved.job_id,
        reason="",
        at=resolved.resolved_at,
    )
