"""Old deliveries and their attempts leave the log; events stay, and so does what is still to be delivered."""

from datetime import timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.clock import now
from app.settings import get_settings
from app.webhooks.tables import Attempt, Delivery


def forget_deliveries(session: Session, *, limit: int) -> int:
    """Remove up to `limit` deliveries that ended longer ago than the log is kept. Returns how many.

    Their events can still be read in the feed and be delivered once more.
    """
    before = now(session) - timedelta(days=get_settings().webhook_log_days)
    old = session.scalars(
        select(Delivery.id)
        .where(Delivery.ended_at < before)
        .order_by(Delivery.ended_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    if old:
        session.execute(delete(Attempt).where(Attempt.delivery_id.in_(old)))
        session.execute(delete(Delivery).where(Delivery.id.in_(old)))
    return len(old)
