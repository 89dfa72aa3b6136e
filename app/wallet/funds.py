"""Top-ups, grants, refunds and corrections, each a new transfer."""

from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.clock import now
from app.errors import AppError, not_found
from app.wallet.balance import decimal_text, reset_low_balance
from app.wallet.budgets import refund_budgets
from app.wallet.lots import add_lot, draw, return_to_lots
from app.wallet.tables import DrawCause, Hold, HoldState, LotKind, Transfer, TransferKind, Wallet
from app.wallet.transfer import apply_transfer, write_transfer
from pricing.money import require_integer


def top_up(
    session: Session,
    account_id: str,
    amount: int,
    *,
    kind: str,
    reference: str,
    expires_at: datetime | None = None,
    reason: str = "",
) -> Transfer:
    """Put money into a wallet, as a credit lot of its own.

    `account_id`: whose wallet. `amount`: minor units, more than 0. `kind`: `purchased` (somebody paid) or `granted` (we
    give it). `reference`: the payment's or the order's id; the same order again returns the first transfer.
    `expires_at`: when what is left of it expires, if ever. `reason`: for people.

    Raises TypeError, ValueError for an amount that is not whole and more than 0. Raises AppError `not_found`;
    `invalid_request` for an unknown kind or an expiry in the past; `conflict` if the reference was used for another
    order.
    """
    require_integer(amount, least=1)
    kinds = [str(known) for known in LotKind]
    if kind not in kinds:
        raise AppError("invalid_request", f"{kind!r} is no kind of credit.", field="kind", allowed=kinds)
    bought = TransferKind.PURCHASE if kind == LotKind.PURCHASED else TransferKind.GRANT
    transfer, new = write_transfer(session, account_id, bought, amount, reference=reference, reason=reason)
    if new:
        if expires_at is not None and expires_at <= now(session):
            raise AppError("invalid_request", "The credit would have expired already.", field="expires_at")
        apply_transfer(session, transfer)
        add_lot(session, transfer, kind, expires_at)
        reset_low_balance(session, account_id)
    return transfer


def refund(session: Session, job_id: str, amount: int, *, reference: str, reason: str) -> Transfer:
    """Give back part or all of what a job was charged; the hold stays captured, and the budgets get it back too.

    It goes back into the credit lots that it was taken from, as if that much less had been captured: granted credit
    comes back granted, and ends when it would have ended, or a while from now if that moment has passed.

    Raises TypeError, ValueError for an amount that is not whole and more than 0. Raises AppError `not_found`;
    `conflict` if the job was not charged, or not that much is left to give back.
    """
    require_integer(amount, least=1)
    # The hold's row orders refunds of one job, so that two cannot both give back the last of it.
    paid = session.scalar(
        select(Hold)
        .where(Hold.job_id == job_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    if paid is None:
        raise not_found("hold", job_id)
    refunded = int(
        session.scalar(
            select(func.coalesce(func.sum(Transfer.amount), 0)).where(
                Transfer.job_id == job_id,
                Transfer.kind == str(TransferKind.REFUND),
                Transfer.reference != f"{TransferKind.REFUND}:{paid.account_id}:{reference}",
            )
        )
        or 0
    )
    left = paid.captured_amount - refunded
    if paid.state != HoldState.CAPTURED or amount > left:
        raise _refund_above_charge(session, paid, left, amount)
    transfer, new = write_transfer(
        session, paid.account_id, TransferKind.REFUND, amount, reference=reference, job_id=job_id, reason=reason
    )
    if new:
        refund_budgets(session, paid, amount)
        apply_transfer(session, transfer)
        return_to_lots(session, paid, transfer, refunded)
        reset_low_balance(session, paid.account_id)
    return transfer


def _refund_above_charge(session: Session, paid: Hold, left: int, amount: int) -> AppError:
    currency = session.scalars(select(Wallet.currency).where(Wallet.account_id == paid.account_id)).one()
    return AppError(
        "conflict",
        "The job was not charged that much.",
        job=paid.job_id,
        left=decimal_text(max(0, left), currency),
        asked=decimal_text(amount, currency),
        currency=currency,
    )


def correct(
    session: Session, account_id: str, amount: int, *, reference: str, reason: str, job_id: str | None = None
) -> Transfer:
    """Book a correction: a positive amount gives, a negative one takes, even below the credit limit.

    Raises TypeError, ValueError for an amount that is not whole, or 0. Raises AppError `not_found`; `invalid_request`
    without a reason; `conflict` if the reference was used otherwise.
    """
    size = require_integer(abs(require_integer(amount, least=None)), least=1)
    if not reason.strip():
        raise AppError("invalid_request", "A correction needs a reason.", field="reason")
    transfer, new = write_transfer(
        session,
        account_id,
        TransferKind.CORRECTION,
        size,
        reference=reference,
        outward=amount < 0,
        job_id=job_id,
        reason=reason,
    )
    if new:
        apply_transfer(session, transfer)
        if amount > 0:
            add_lot(session, transfer, LotKind.PURCHASED, None)
            reset_low_balance(session, account_id)
        else:
            draw(session, account_id, size, transfer.id, DrawCause.CORRECTION)
    return transfer


def list_transfers(
    session: Session, account_id: str, *, before: tuple[datetime, str] | None = None, limit: int = 50
) -> list[Transfer]:
    """Return an account's transfers, newest first, older than the cursor (moment and id of the last one seen)."""
    query = select(Transfer).where(Transfer.account_id == account_id)
    if before is not None:
        at, last = before
        query = query.where((Transfer.at < at) | ((Transfer.at == at) & (Transfer.id < last)))
    return list(session.scalars(query.order_by(Transfer.at.desc(), Transfer.id.desc()).limit(limit)))


def signed_text(transfer: Transfer) -> str:
    """Return the transfer's amount as a decimal string, negative where the wallet gave."""
    sign = "-" if transfer.debit.startswith("wallet:") else ""
    return sign + decimal_text(transfer.amount, transfer.currency)
