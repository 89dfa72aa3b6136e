"""Transfers: one row with two sides, written once per reference, and the wallet's `posted` moved with it."""

from typing import Any

from sqlalchemy import BigInteger, bindparam, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.clock import now
from app.db import Base, new_id
from app.errors import AppError, not_found
from app.wallet.tables import INTERNAL_ACCOUNT, Transfer, TransferKind, Wallet
from pricing.money import require_integer

# Built once, and on the table.
_CHANGE_WALLET = (
    update(Base.metadata.tables["wallets"])
    .where(Wallet.account_id == bindparam("wallet"))
    .values(
        posted=Wallet.posted + bindparam("posted_change", type_=BigInteger),
        held=Wallet.held + bindparam("held_change", type_=BigInteger),
    )
)


def wallet_side(account_id: str) -> str:
    """Return the name of an account's wallet as a side of a transfer."""
    return f"wallet:{account_id}"


def write_transfer(
    session: Session,
    account_id: str,
    kind: TransferKind,
    amount: int,
    *,
    reference: str,
    outward: bool = False,
    job_id: str | None = None,
    reason: str = "",
) -> tuple[Transfer, bool]:
    """Write a transfer's row and return it, and whether it is new; a new one must be followed by `apply_transfer`.

    The row is written before the wallet's row is locked: budgets come between the two, and a repeated order waits
    for no lock.

    `account_id`: whose wallet. `kind`: why the money moves; it names the other side. `amount`: minor units, more than
    0. `reference`: what makes a repeated order the same order; unique within the account and kind. `outward`: true when
    the wallet gives. `job_id`: the job that it is about, if any. `reason`: for people.

    Raises AppError `not_found` without a wallet; `conflict` if the reference was used for another order.
    """
    require_integer(amount, least=1)
    currency = session.scalar(select(Wallet.currency).where(Wallet.account_id == account_id))
    if currency is None:
        raise not_found("wallet", account_id)
    wallet, internal = wallet_side(account_id), INTERNAL_ACCOUNT[kind]
    values: dict[str, Any] = {
        "id": new_id("transfer"),
        "account_id": account_id,
        "debit": wallet if outward else internal,
        "credit": internal if outward else wallet,
        "amount": amount,
        "currency": currency,
        "kind": str(kind),
        "job_id": job_id,
        "reference": f"{kind}:{account_id}:{reference}",
        "reason": reason,
        "at": now(session),
    }
    transfer = session.scalar(
        insert(Transfer).values(values).on_conflict_do_nothing(index_elements=["reference"]).returning(Transfer)
    )
    return (_same_order(session, values), False) if transfer is None else (transfer, True)


def apply_transfer(session: Session, transfer: Transfer, *, held_change: int = 0) -> None:
    """Apply a new transfer to the wallet's `posted`, and change its `held`."""
    outward = transfer.debit == wallet_side(transfer.account_id)
    change_wallet(
        session,
        transfer.account_id,
        posted_change=-transfer.amount if outward else transfer.amount,
        held_change=held_change,
    )


def change_wallet(session: Session, account_id: str, *, posted_change: int = 0, held_change: int = 0) -> None:
    """Change the two sums of a wallet; its row is locked from here to the end of the transaction."""
    require_integer(posted_change, "posted_change", least=None)
    require_integer(held_change, "held_change", least=None)
    inputs = {"wallet": account_id, "posted_change": posted_change, "held_change": held_change}
    session.execute(_CHANGE_WALLET, inputs)


def _same_order(session: Session, values: dict[str, Any]) -> Transfer:
    earlier = session.scalars(select(Transfer).where(Transfer.reference == values["reference"])).one()
    if any(getattr(earlier, name) != values[name] for name in ("debit", "credit", "amount", "currency", "job_id")):
        raise AppError(
            "conflict", "This reference was used for another transfer.", field="reference", transfer=earlier.id
        )
    return earlier
