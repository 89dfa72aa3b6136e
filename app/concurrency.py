"""How many of one thing a process does at once: each holds a thread, so some of it stays for everybody else."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from app.errors import AppError

_RETRY_SECONDS = 5


class ConcurrencyLimit:
    """Places of one process for one kind of work, bounded for each account and for all of them together.

    `things` is what takes a place, and `done` what is being done with it, in words for whoever has to wait.
    """

    def __init__(self, things: str, done: str, *, each: int, together: int) -> None:
        self._things, self._done = things, done
        self._each, self._together = each, together
        self._lock = threading.Lock()
        self._held: Counter[str] = Counter()

    @contextmanager
    def hold(self, account_id: str) -> Iterator[None]:
        """Hold one of the places for the block.

        Raises AppError `rate_limited` when the account has all of its own, and `unavailable` when all are taken.
        """
        with self._lock:
            if self._held[account_id] >= self._each:
                message = (
                    f"{self._each} {self._things} of this account are being {self._done} already; "
                    "send the next when one is done."
                )
                raise AppError("rate_limited", message, allowed=self._each, retry_after=_RETRY_SECONDS)
            if self._held.total() >= self._together:
                message = f"Too many {self._things} are being {self._done} at this moment; try again in some seconds."
                raise AppError("unavailable", message, retry_after=_RETRY_SECONDS)
            self._held[account_id] += 1
        try:
            yield
        finally:
            with self._lock:
                self._held[account_id] -= 1
                if not self._held[account_id]:
                    del self._held[account_id]
