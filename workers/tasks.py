"""Celery tasks: shells of a few lines."""

from typing import Any

from app.wakeups import WAKEUP_TASK
from workers.main import celery_app
from workers.worker_loop import current_worker


@celery_app.task(name=WAKEUP_TASK)
def wake_up(*, pool: str, **_: Any) -> None:
    """Answer a wake-up: work until nothing is left. `pool` says what sent it; the claim decides what is done."""
    current_worker().work()
