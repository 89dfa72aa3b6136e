"""Celery tasks: shells of a few lines."""

from typing import Any

from app.wakeups import DOORBELL
from workers.main import bell
from workers.worker_loop import get_desk


@bell.task(name=DOORBELL)
def answer(*, pool: str, **_: Any) -> None:
    """Answer a doorbell: work until nothing is left. `pool` says who rang; the claim decides what is done."""
    get_desk().work()
