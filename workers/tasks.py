"""Celery tasks: shells of a few lines."""

from typing import Any

from app.wakeups import WAKEUP_TASK
from workers.main import bell
from workers.worker_loop import current_worker


@bell.task(name=WAKEUP_TASK)
def answer(*, pool: str, **_: Any) -> None:
    """Answer a doorbell: work until nothing is left. `pool` says who rang; the claim decides what is done."""
    current_worker().work()
