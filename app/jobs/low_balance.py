"""Tell the owner that the wallet runs low, in the transaction of whatever lowered it."""

from sqlalchemy.orm import Session

from app.events.record import record_event
from app.wallet.balance import crossed_low_balance
from app.webhooks.fanout import fan_out
from pricing.money import Money


def publish_low_balance(session: Session, account_id: str) -> bool:
    """Write the event `wallet.low` and its deliveries if the wallet fell below its threshold; say whether it did.

    Ask after every act that can lower what is available: a hold, credit that expired, a correction that takes, a
    lowered credit limit. One fall is told once, whichever act caused it.
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
