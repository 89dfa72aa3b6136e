"""Notify the owner of a low balance, in the transaction that lowered it."""

from sqlalchemy.orm import Session

from app.events.record import record_event
from app.wallet.balance import crossed_low_balance
from app.webhooks.fanout import fan_out
from pricing.money import Money


def publish_low_balance(session: Session, account_id: str) -> bool:
    """Write the event `wallet.low` and its deliveries if the wallet fell below its threshold; return whether it did.

    Call this after everything that can lower the available balance: a hold, expired credit, a negative correction, a
    lowered credit limit. One fall is reported once, whichever caused it.
    """
    low = crossed_low_balance(session, account_id)
    if low is None:
        return False
    available = Money(low.available, low.currency).text
    data = {"id": account_id, "object": "wallet", "available": available, "currency": low.currency}
    fan_out(
        session,
        record_event(session, account_id=account_id, project_id=None, job_id=None, type="wallet.low", data=data),
    )
    return True
