"""Open a wallet, read its balance, set its limits, and notice when it runs low."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict
from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.accounts.accounts import get_account
from app.clock import now
from app.errors import not_found
from app.wallet.tables import IS_OPEN, CreditLot, LotKind, Wallet
from pricing.money import Money, require_integer


class Balance(BaseModel):
    """A wallet at one moment. Credit that has expired is left out, whether or not its expiry has been booked yet."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    account_id: str
    currency: str
    posted: int  # the balance: what came in less what was spent; below zero when credit is in use
    held: int
    credit_limit: int
    available: int  # posted - held + credit limit: what a new hold may take
    granted: int  # what is left in granted lots and not pinned by a hold
    purchased: int
    next_expiry_at: datetime | None
    next_expiry_amount: int
    low_balance: int | None  # the owner is notified when available falls below this


def open_wallet(session: Session, account_id: str, *, credit_limit: int = 0) -> None:
    """Give an account its wallet, empty, in the account's currency. Idempotent.

    Raises AppError `not_found` for an unknown account.
    """
    account = get_account(session, account_id)
    session.execute(
        insert(Wallet)
        .values(
            account_id=account_id,
            currency=account.currency,
            posted=0,
            held=0,
            credit_limit=require_integer(credit_limit, "credit_limit"),
            created_at=now(session),
        )
        .on_conflict_do_nothing()
    )


def available_now(moment: datetime | ColumnElement[datetime]) -> ColumnElement[int]:
    """Return what a hold may take at a moment, in minor units, as SQL over a row of `wallets`.

    It is the one definition: holds are allowed by it, pages and APIs show it, and the low-balance event watches it.
    Credit that has expired is left out, whether or not its expiry has been booked yet.
    """
    expired = (
        select(func.coalesce(func.sum(CreditLot.remaining), 0))
        .where(CreditLot.account_id == Wallet.account_id, IS_OPEN, CreditLot.expires_at <= moment)
        .correlate(Wallet)
        .scalar_subquery()
    )
    return Wallet.posted - Wallet.held + Wallet.credit_limit - expired


def balance(session: Session, account_id: str) -> Balance:
    """Return the balance of a wallet. Raises `not_found`."""
    moment = now(session)
    row = session.execute(
        select(Wallet, available_now(moment))
        .where(Wallet.account_id == account_id)
        .execution_options(populate_existing=True)
    ).one_or_none()
    if row is None:
        raise not_found("wallet", account_id)
    wallet, available = row
    lots = session.execute(
        select(CreditLot.kind, CreditLot.expires_at, func.sum(CreditLot.remaining))
        .where(CreditLot.account_id == account_id, IS_OPEN)
        .group_by(CreditLot.kind, CreditLot.expires_at)
    ).all()
    expired = sum(int(amount) for _, at, amount in lots if at is not None and at <= moment)
    live = [(kind, at, int(amount)) for kind, at, amount in lots if at is None or at > moment]
    next_at = min((at for _, at, _ in live if at is not None), default=None)
    return Balance(
        account_id=account_id,
        currency=wallet.currency,
        posted=wallet.posted - expired,
        held=wallet.held,
        credit_limit=wallet.credit_limit,
        available=int(available),
        granted=sum(amount for kind, _, amount in live if kind == LotKind.GRANTED),
        purchased=sum(amount for kind, _, amount in live if kind == LotKind.PURCHASED),
        next_expiry_at=next_at,
        next_expiry_amount=sum(amount for _, at, amount in live if at is not None and at == next_at),
        low_balance=wallet.low_balance,
    )


def lock_wallet(session: Session, account_id: str) -> None:
    """Lock a wallet before the audit log, where one transaction does several actions. Raises AppError `not_found`."""
    row = select(Wallet.account_id).where(Wallet.account_id == account_id).with_for_update(key_share=True)
    if session.scalar(row) is None:
        raise not_found("wallet", account_id)


def set_credit_limit(session: Session, account_id: str, credit_limit: int) -> None:
    """Set how far below zero new holds may go, in minor units. Open holds stay as they are.

    Raises AppError `not_found`.
    """
    _set(session, account_id, credit_limit=require_integer(credit_limit, "credit_limit"))
    reset_low_balance(session, account_id)


def set_low_balance(session: Session, account_id: str, threshold: int | None) -> None:
    """Set the balance below which the owner is notified, in minor units; None: never. Raises `not_found`."""
    value = None if threshold is None else require_integer(threshold, "threshold")
    _set(session, account_id, low_balance=value, low_balance_told_at=None)


def crossed_low_balance(session: Session, account_id: str) -> Balance | None:
    """Return the balance if it has fallen below its threshold since the last notification, else None.

    The caller that gets the balance writes the event; no other caller gets it again until `reset_low_balance` has seen
    the wallet above the threshold. Call it after whatever lowers a wallet (a hold, an expiry, a correction, a lowered
    limit), in its transaction, where the wallet's row is locked anyway.
    """
    moment = now(session)
    crossed = session.execute(
        update(Wallet)
        .where(
            Wallet.account_id == account_id,
            Wallet.low_balance_told_at.is_(None),
            available_now(moment) < Wallet.low_balance,
        )
        .values(low_balance_told_at=moment)
        .returning(Wallet.account_id)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    return None if crossed is None else balance(session, account_id)


def reset_low_balance(session: Session, account_id: str) -> None:
    """Allow the next low-balance notification where the wallet is above its threshold again. Call it after credit."""
    session.execute(
        update(Wallet)
        .where(
            Wallet.account_id == account_id,
            Wallet.low_balance_told_at.is_not(None),
            or_(Wallet.low_balance.is_(None), available_now(now(session)) >= Wallet.low_balance),
        )
        .values(low_balance_told_at=None)
        .execution_options(synchronize_session=False)
    )


def _set(session: Session, account_id: str, **values: object) -> None:
    done = session.execute(
        update(Wallet)
        .where(Wallet.account_id == account_id)
        .values(**values)
        .returning(Wallet.account_id)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if done is None:
        raise not_found("wallet", account_id)


def decimal_text(minor: int, currency: str) -> str:
    """Return minor units as the decimal string that problem documents carry: 439 CNY is `4.39`."""
    return Money(minor, currency).text
