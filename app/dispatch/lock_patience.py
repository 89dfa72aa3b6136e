"""How long a round of the scheduler waits for locks in all."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from app.db import is_lock_timeout


class LockPatience:
    """A budget of seconds for waiting for locks, shared by many transactions.

    Each transaction may wait for as long as is left. Once it is used up, a lock that another transaction holds is an
    error at once, and what is not locked goes on as before.
    """

    def __init__(self, seconds: float) -> None:
        self._left = seconds

    def milliseconds(self) -> int:
        """Return the `lock_timeout` of the next transaction, at least 1 because 0 means for ever."""
        return max(1, int(1000 * self._left))

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Run the block, and subtract its time where it ended in a lock timeout."""
        began = time.monotonic()
        try:
            yield
        except Exception as error:
            if is_lock_timeout(error):
                self._left -= time.monotonic() - began
            raise
