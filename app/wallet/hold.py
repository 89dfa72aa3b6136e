"""Two-phase holds: money is reserved when a job is accepted, and captured or released once, when it ends."""

from sqlalchemy import BigInteger, bindparam, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.accounts.accounts import get_account
from app.accounts.billing_periods import billing_month
from app.clock import now
from app.db import Base, Moment, new_id
from app.errors import AppError, not_found
from app.wallet.balance import available_now, balance, decimal_text, reset_low_balance
from app.wallet.budgets import hold_budgets, settle_budgets
from app.wallet.lots import expire_lots, pin, unpin
from app.wallet.tables import Hold, HoldState, Transfer, TransferKind, Wallet
from app.wallet.transfer import apply_transfer, change_wallet, write_transfer
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
    """Set an amount aside for a job: in the key's budget, the project's, and last in the wallet.

    When it raises, the transaction must be rolled back: part of it may have been written.

    `account_id`: whose wallet. `job_id`: the job; it has one hold in its life. `amount`: minor units, 0 or more; a free
    job has a hold of nothing. `project_id`: the project in whose month it counts, if any. `key_id`: the key in whose
    life it counts, if any.

    Raises TypeError, ValueError for an amount that is not whole or negative. Raises AppError `insufficient_funds`,
    `budget_exceeded`, `price_above_cap`; `conflict` if the job has a hold.
    """
    require_integer(amount)
    account = get_account(session, account_id)
    new_hold = session.scalars(
        insert(Hold)
        .values(
            id=new_id("hold"),
            job_id=job_id,
            account_id=account_id,
            project_id=project_id,
            key_id=key_id,
            month=billing_month(account.billing_zone, now(session)),
            amount=amount,
            state=str(HoldState.HELD),
            captured_amount=0,
            created_at=now(session),
        )
        .on_conflict_do_nothing(index_elements=["job_id"])
        .returning(Hold)
    ).one_or_none()
    if new_hold is None:
        raise AppError("conflict", "This job has a hold already.", job=job_id)
    hold_budgets(session, new_hold, account.currency)
    if not _reserve(session, new_hold):
        # Expired credit that is not booked yet may have been counted twice against it; book it and try again.
        expire_lots(session, account_id)
        if not _reserve(session, new_hold):
            raise _insufficient_funds(session, new_hold)
    if amount:
        pin(session, new_hold)
    return new_hold


def capture(session: Session, job_id: str, amount: int, *, ours: bool = False) -> Transfer | None:
    """Capture up to the held amount for a job, and release the rest; return the transfer, or None for an amount of 0.

    `ours` says that the rest is released through a fault of ours, so that no credit of the customer's expires by it.

    Raises HoldResolved the second time, saying how it was resolved the first time. Raises ValueError above the held
    amount, AppError `not_found`.
    """
    resolved = _resolve(session, job_id, HoldState.CAPTURED, require_integer(amount))
    settle_budgets(session, resolved, amount)
    transfer = None
    if amount:
        transfer, _ = write_transfer(
            session, resolved.account_id, TransferKind.CAPTURE, amount, reference=job_id, outward=True, job_id=job_id
        )
        apply_transfer(session, transfer, held_change=-resolved.amount)
    else:
        change_wallet(session, resolved.account_id, held_change=-resolved.amount)
    unpin(session, resolved, amount, transfer, ours=ours)
    reset_low_balance(session, resolved.account_id)
    return transfer


def release(session: Session, job_id: str, *, ours: bool = True) -> Hold:
    """Release a whole hold: the job failed, expired, or was cancelled with nothing to bill.

    `ours` False (a cancel) lets credit that expired under the hold stay expired.

    Raises HoldResolved the second time, saying how it was resolved the first time, AppError `not_found`.
    """
    resolved = _resolve(session, job_id, HoldState.RELEASED, 0)
    settle_budgets(session, resolved, 0)
    change_wallet(session, resolved.account_id, held_change=-resolved.amount)
    unpin(session, resolved, 0, None, ours=ours)
    reset_low_balance(session, resolved.account_id)
    return resolved


def get_hold(session: Session, job_id: str) -> Hold:
    """Return the hold of a job. Raises `not_found`."""
    row = session.scalar(select(Hold).where(Hold.job_id == job_id).execution_options(populate_existing=True))
    if row is None:
        raise not_found("hold", job_id)
    return row


def _reserve(session: Session, new_hold: Hold) -> bool:
    """Raise `held` if the wallet and its credit limit allow it: the one conditional update that stops overdrawing."""
    facts = {"wallet": new_hold.account_id, "wanted": new_hold.amount, "moment": now(session)}
    return session.execute(_HOLD_IN_WALLET, facts).one_or_none() is not None


def _insufficient_funds(session: Session, new_hold: Hold) -> AppError:
    has = balance(session, new_hold.account_id)
    return AppError(
        "insufficient_funds",
        "The wallet cannot hold the price of this job.",
        price=decimal_text(new_hold.amount, has.currency),
        available=decimal_text(has.available, has.currency),
        currency=has.currency,
    )


def _resolve(session: Session, job_id: str, state: HoldState, amount: int) -> Hold:
    resolved = session.scalars(
        update(Hold)
        .where(Hold.job_id == job_id, Hold.state == str(HoldState.HELD), Hold.amount >= amount)
        .values(state=str(state), captured_amount=amount, resolved_at=now(session))
        .returning(Hold)
        .execution_options(populate_existing=True)
    ).one_or_none()
    if resolved is not None:
        return resolved
    existing = get_hold(session, job_id)
    if existing.state != HoldState.HELD:
        raise HoldResolved(existing)
    raise ValueError(f"{amount} is more than the {existing.amount} that is held for {job_id}")
