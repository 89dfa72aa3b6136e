"""What a creator is told about a queue that stands still: no worker, draining workers, paused models, and the money."""

from collections.abc import Iterable

from sqlalchemy.orm import Session

from app.catalog.models import VideoModel
from app.dispatch.worker_registry import live_workers
from app.jobs.intake import list_pauses
from app.jobs.plan import FINISH_POOL, TEST_POOL
from app.web.auth import Visitor

NO_WORKER = (
    "No worker is running. Your film starts when one returns. Until then nothing is charged; cancelling is free."
)
PAUSED = "Films that are ordered already go on; refused orders cost nothing."


def closed_reasons(session: Session, visitor: Visitor) -> list[str]:
    """Return why some or all new films are refused now, one sentence per reason, with what happens to the money."""
    account = visitor.caller.account
    reasons = []
    if account.suspended_at is not None:
        reasons.append(f"This account is suspended: {account.suspended_reason}. It cannot order new films.")
    for pause in list_pauses(session):
        if pause.account_id in (None, account.id):
            films = f"New films with {pause.model}" if pause.model else "New films"
            reasons.append(f"{films} are paused: {pause.reason.rstrip('.')}. {PAUSED}")
    return reasons


def waiting_reason(session: Session, visitor: Visitor, models: Iterable[VideoModel]) -> str:
    """Return why films that are ordered now would wait for a worker, or an empty text where some worker runs them."""
    by_pool = {TEST_POOL: "test films"} if visitor.test else {each.pool: each.name for each in models}
    idle = [name for pool, name in by_pool.items() if not live_workers(session, pool)]
    if len(idle) == len(by_pool) or not live_workers(session, FINISH_POOL):
        return "No worker is running. Films wait until one returns. Until then nothing is charged; cancelling is free."
    if idle:
        return f"No worker runs {', '.join(idle)} now. Such films wait; nothing is charged and cancelling is free."
    return ""
