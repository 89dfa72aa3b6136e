"""What a creator is told about a queue that stands still: no worker, draining workers, paused models, and the money."""

from collections.abc import Iterable
from math import ceil

from sqlalchemy.orm import Session

from app.catalog.models import VideoModel
from app.catalog.pools import UNKNOWN_POOL, load_pools
from app.dispatch.worker_registry import live_workers
from app.jobs.intake import list_pauses
from app.jobs.plan import FINISH_POOL, TEST_POOL
from app.settings import get_settings
from app.web.auth import Visitor
from app.web.language import gettext


def no_worker() -> str:
    """Return what a film is told that waits while no worker is running."""
    return gettext(
        "No worker is running. Your film starts when one returns. Until then nothing is charged; cancelling is free."
    )


def closed_reasons(session: Session, visitor: Visitor) -> list[str]:
    """Return why some or all new films are refused now, one sentence per reason, with what happens to the money."""
    account = visitor.caller.account
    reasons = []
    if account.suspended_at is not None:
        reason = account.suspended_reason
        reasons.append(gettext("This account is suspended: %(reason)s. It cannot order new films.", reason=reason))
    for pause in list_pauses(session):
        if pause.account_id in (None, account.id):
            reason = pause.reason.rstrip(".")
            if pause.model:
                text = gettext("New films with %(model)s are paused: %(reason)s.", model=pause.model, reason=reason)
            else:
                text = gettext("New films are paused: %(reason)s.", reason=reason)
            rest = gettext("Films that are ordered already go on; refused orders cost nothing.")
            reasons.append(f"{text} {rest}")
    return reasons


def waiting_reason(session: Session, visitor: Visitor, models: Iterable[VideoModel]) -> str:
    """Return why films that are ordered now would wait for a worker, or an empty text where some worker runs them."""
    by_pool = {TEST_POOL: gettext("test films")} if visitor.test else {each.pool: each.name for each in models}
    plans = load_pools(get_settings().catalog_dir)
    idle, starting = [], {}
    for pool, name in by_pool.items():
        if not live_workers(session, pool):
            plan = plans.get(pool, UNKNOWN_POOL)
            if plan.startable():
                starting[name] = plan.cold_start_seconds
            else:
                idle.append(name)
    if len(idle) == len(by_pool) or not live_workers(session, FINISH_POOL):
        return gettext(
            "No worker is running. Films wait until one returns. Until then nothing is charged; cancelling is free."
        )
    if idle:
        return gettext(
            "No worker runs %(models)s now. Such films wait; nothing is charged and cancelling is free.",
            models=", ".join(idle),
        )
    if starting:
        return gettext(
            "Workers for %(models)s start when a film is ordered, which takes about %(minutes)s minutes.",
            models=", ".join(starting),
            minutes=ceil(max(starting.values()) / 60),
        )
    return ""
