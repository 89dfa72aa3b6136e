"""Concurrency limits of one process for work that occupies a thread, so that threads remain for everybody else."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from app.errors import AppError

_RETRY_SECONDS = 5


class ConcurrencyLimit:
    """Slots of one process for one kind of work, limited for each account and for all accounts together.

    `things` names the work, `action` what is done with it (a participle), and `owner` for whom the slots of one id
    are, for the message of a refusal.
    """

    def __init__(self, things: str, action: str, *, each: int, together: int, owner: str = "this account") -> None:
        self._things, self._action, self._owner = things, action, owner
        self._each, self._together = each, together
        self._lock = threading.Lock()
        self._in_use: Counter[str] = Counter()

    @contextmanager
    def hold(self, account_id: str, *, amount: int = 1) -> Iterator[None]:
        """Hold a slot, or `amount` of them, during the block.

        Raises AppError `rate_limited` when the account uses all of its slots, and `unavailable` when all are in use.
        """
        with self._lock:
            if self._in_use[account_id] + amount > self._each:
                message = (
                    f"As many {self._things} of {self._owner} as are allowed ({self._each}) are being {self._action} "
                    "already; send the next when one is done."
                )
                raise AppError("rate_limited", message, allowed=self._each, retry_after=_RETRY_SECONDS)
            if self._in_use.total() + amount > self._together:
                message = f"Too many {self._things} are being {self._action} at this moment; try again in some seconds."
                raise AppError("unavailable", message, retry_after=_RETRY_SECONDS)
            self._in_use[account_id] += amount
        try:
            yield
        finally:
            with self._lock:
                self._in_use[account_id] -= amount
                if not self._in_use[account_id]:
                    del self._in_use[account_id]
