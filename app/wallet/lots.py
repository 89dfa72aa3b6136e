"""Credit lots: pinned by holds, spent soonest expiry first and granted before purchased, expired into breakage.

Everything here runs while the transaction holds the row lock of the lot's wallet: that one lock orders all changes
of its lots.
"""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from app.clock import now
from app.db import new_id
from app.sql_statements import sql_file
from app.wallet.tables import (
    IS_OPEN,
    CreditLot,
    DrawCause,
    Hold,
    HoldSlice,
    LotDraw,
    LotKind,
    Transfer,
    TransferKind,
    Wallet,
)
from app.wallet.transfer import apply_transfer, write_transfer
from pricing.money import require_integer

# How long credit is valid again that expired under a hold which failed through our fault, not the customer's.
REGRANT_LIFE = timedelta(days=30)

_PIN = sql_file("app.wallet", "pin.sql")
_UNPIN = sql_file("app.wallet", "unpin.sql")

_DEBT = text("""
SELECT (SELECT coalesce(sum(remaining), 0) FROM credit_lots WHERE account_id = :account_id AND remaining > 0)
     + (SELECT coalesce(sum(hold_slices.amount), 0) FROM hold_slices JOIN holds ON holds.id = hold_slices.hold_id
        WHERE holds.account_id = :account_id AND holds.state = 'held')
     - posted
FROM wallets WHERE account_id = :account_id
""")


def add_lot(session: Session, transfer: Transfer, kind: str, expires_at: datetime | None) -> CreditLot:
    """Make the lot of an incoming transfer, and pay with it what the wallet owes."""
    lot = _make_lot(session, transfer, transfer.amount, kind, expires_at)
    pay_debt(session, transfer.account_id, transfer.id)
    return lot


def pin(session: Session, account_id: str, amounts: Mapping[str, int]) -> None:
    """Pin lots for holds, by their ids. What the lots do not cover is covered by the credit limit and has no slice."""
    holds = [(hold_id, require_integer(amount)) for hold_id, amount in amounts.items()]
    _PIN.run(session, {"account_id": account_id, "holds": json.dumps(holds), "now": now(session)})


def unpin(session: Session, hold: Hold, spent: int, transfer_id: str | None, *, ours: bool) -> None:
    """Spend a resolved hold's slices up to `spent`, and give the rest back to their lots.

    What goes back to a lot that has expired meanwhile is breakage; where the fault was ours it is granted anew. What is
    owed is paid out of what came back. `transfer_id` is the capture's, if there is one.
    """
    facts = {"hold_id": hold.id, "account_id": hold.account_id, "spent": require_integer(spent, "spent")}
    row = _UNPIN.run(session, {**facts, "now": now(session)}).one()
    if row.is_expired:
        _unpin_expired(session, hold, spent, transfer_id, ours=ours)
    elif row.debt > 0:
        _draw_debt(session, hold.account_id, int(row.debt), transfer_id)


def _unpin_expired(session: Session, hold: Hold, spent: int, transfer_id: str | None, *, ours: bool) -> None:
    """Do what `unpin` does where something goes back to a lot that has expired."""
    left = spent
    for piece, lot in _slices(session, hold):
        piece.used = min(piece.amount, left)
        left -= piece.used
        back = piece.amount - piece.used
        if back:
            lot.remaining += back
            if lot.expires_at is not None and lot.expires_at <= now(session):
                session.flush()
                _expire(session, lot, back, f"{hold.id}:{lot.id}", regrant=ours)
    pay_debt(session, hold.account_id, transfer_id)


def return_to_lots(session: Session, hold: Hold, transfer: Transfer, refunded: int) -> None:
    """Put a refund back where its charge was taken from, as if that much less had been captured.

    What was spent last comes back first: what the credit limit covered, then the hold's slices, each into its own lot,
    so that credit stays what it was and ends when it would have. What comes back to a lot that has expired meanwhile
    is granted anew. `refunded` is what earlier refunds of the job gave back, in minor units.
    """
    require_integer(refunded, "refunded")
    slices = _slices(session, hold)
    on_credit = hold.captured_amount - sum(piece.used or 0 for piece, _ in slices)
    part = min(transfer.amount, max(0, on_credit - refunded))
    if part:
        _give_back_credit(session, transfer, part)
    left, passed = transfer.amount - part, max(0, refunded - on_credit)
    for piece, lot in reversed(slices):
        used = piece.used or 0
        back = min(max(0, used - passed), left)
        passed = max(0, passed - used)
        if back:
            piece.refunded += back
            lot.remaining += back
            left -= back
            if lot.expires_at is not None and lot.expires_at <= now(session):
                session.flush()
                _expire(session, lot, back, f"{transfer.id}:{lot.id}", regrant=True)
    pay_debt(session, hold.account_id, transfer.id)


def _give_back_credit(session: Session, transfer: Transfer, amount: int) -> None:
    """Give back what the credit limit had covered: first what is still owed, then what lots have paid since.

    Debts are one sum and have no lots, so nobody can say which payment paid for which film. As much as granted credit
    has paid of debts, and no refund has given back yet, comes back granted: a refund makes no money of a gift.
    """
    owed = min(amount, max(0, _debt(session, transfer.account_id) + transfer.amount))
    granted = min(amount - owed, _granted_in_debts(session, transfer.account_id))
    bought = amount - granted
    if bought:
        lot = _make_lot(session, transfer, bought, LotKind.PURCHASED, None)
        if owed:
            _draw(session, lot, owed, transfer.id, DrawCause.DEBT)
    if granted:
        _make_lot(session, transfer, granted, LotKind.GRANTED, None)
    session.flush()


def _granted_in_debts(session: Session, account_id: str) -> int:
    """Return how much granted credit has paid debts and was not given back by refunds, in minor units."""
    mine = (CreditLot.account_id == account_id, CreditLot.kind == str(LotKind.GRANTED))
    paid = (
        select(func.coalesce(func.sum(LotDraw.amount), 0))
        .join(CreditLot, CreditLot.id == LotDraw.lot_id)
        .where(*mine, LotDraw.cause == str(DrawCause.DEBT))
        .scalar_subquery()
    )
    back = (
        select(func.coalesce(func.sum(CreditLot.amount), 0))
        .join(Transfer, Transfer.id == CreditLot.transfer_id)
        .where(*mine, Transfer.kind == str(TransferKind.REFUND))
        .scalar_subquery()
    )
    return int(session.execute(select(paid - back)).scalar_one())


def draw(session: Session, account_id: str, amount: int, transfer_id: str, cause: DrawCause) -> int:
    """Take up to `amount` out of lots that no hold pins, in the order of spending; return how much there was."""
    require_integer(amount)
    lots = session.scalars(
        select(CreditLot)
        .where(CreditLot.account_id == account_id, IS_OPEN)
        .where(CreditLot.expires_at.is_(None) | (CreditLot.expires_at > now(session)))
        .order_by(CreditLot.expires_at.nulls_last(), CreditLot.kind == "purchased", CreditLot.created_at, CreditLot.id)
        .execution_options(populate_existing=True)
    ).all()
    left = amount
    for lot in lots:
        part = min(lot.remaining, left)
        if part:
            _draw(session, lot, part, transfer_id, cause)
            left -= part
    session.flush()
    return amount - left


def pay_debt(session: Session, account_id: str, transfer_id: str | None) -> None:
    """Pay what was spent on credit out of the lots that are there; `transfer_id` is what made it possible."""
    session.flush()
    debt = _debt(session, account_id)
    if debt > 0:
        _draw_debt(session, account_id, debt, transfer_id)


def _draw_debt(session: Session, account_id: str, debt: int, transfer_id: str | None) -> None:
    draw(session, account_id, debt, transfer_id or _last_transfer(session, account_id), DrawCause.DEBT)


def expire_lots(session: Session, account_id: str) -> int:
    """Book what is left in the account's expired lots as breakage; return the minor units. Idempotent."""
    session.execute(select(Wallet.account_id).where(Wallet.account_id == account_id).with_for_update(key_share=True))
    lots = session.scalars(
        select(CreditLot)
        .where(CreditLot.account_id == account_id, IS_OPEN, CreditLot.expires_at <= now(session))
        .order_by(CreditLot.expires_at, CreditLot.id)
        .execution_options(populate_existing=True)
    ).all()
    lost = 0
    for lot in lots:
        lost += lot.remaining
        _expire(session, lot, lot.remaining, lot.id, regrant=False)
    return lost


def accounts_with_expired_lots(session: Session, *, limit: int = 100) -> list[str]:
    """Return accounts whose expired lots are still to be booked, for the reconciler: one transaction for each."""
    query = select(CreditLot.account_id).where(IS_OPEN, CreditLot.expires_at <= now(session))
    return list(session.scalars(query.distinct().limit(limit)))


def _expire(session: Session, lot: CreditLot, amount: int, reference: str, *, regrant: bool) -> None:
    lost, _ = write_transfer(session, lot.account_id, TransferKind.EXPIRY, amount, reference=reference, outward=True)
    apply_transfer(session, lost)
    _draw(session, lot, amount, lost.id, DrawCause.EXPIRY)
    session.flush()
    if regrant:
        reason = "expired under a hold that failed through our fault"
        again, _ = write_transfer(
            session, lot.account_id, TransferKind.REGRANT, amount, reference=reference, reason=reason
        )
        apply_transfer(session, again)
        add_lot(session, again, lot.kind, now(session) + REGRANT_LIFE)


def _make_lot(session: Session, transfer: Transfer, amount: int, kind: str, expires_at: datetime | None) -> CreditLot:
    lot = CreditLot(
        id=new_id("lot"),
        account_id=transfer.account_id,
        kind=str(kind),
        amount=amount,
        remaining=amount,
        expires_at=expires_at,
        transfer_id=transfer.id,
        created_at=transfer.at,
    )
    session.add(lot)
    session.flush()
    return lot


def _slices(session: Session, hold: Hold) -> list[tuple[HoldSlice, CreditLot]]:
    """Return a hold's slices and their lots, in the order of spending."""
    rows = session.execute(
        select(HoldSlice, CreditLot)
        .join(CreditLot, CreditLot.id == HoldSlice.lot_id)
        .where(HoldSlice.hold_id == hold.id)
        .order_by(CreditLot.expires_at.nulls_last(), CreditLot.kind == "purchased", CreditLot.created_at, CreditLot.id)
        .execution_options(populate_existing=True)
    )
    return [(piece, lot) for piece, lot in rows]


def _debt(session: Session, account_id: str) -> int:
    return int(session.execute(_DEBT, {"account_id": account_id}).scalar_one())


def _draw(session: Session, lot: CreditLot, amount: int, transfer_id: str, cause: DrawCause) -> None:
    lot.remaining -= amount
    session.add(LotDraw(id=new_id("draw"), lot_id=lot.id, transfer_id=transfer_id, amount=amount, cause=str(cause)))


def _last_transfer(session: Session, account_id: str) -> str:
    # A release moves no money, so the debt that its lots now pay was made by an earlier transfer.
    return session.scalars(
        select(Transfer.id).where(Transfer.account_id == account_id).order_by(Transfer.at.desc(), Transfer.id).limit(1)
    ).one()
