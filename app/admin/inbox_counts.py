"""Counts of the inbox, kept for some seconds: the navigation of every page of the console shows one."""

import time
from collections.abc import Callable

# After this the items are counted again. What an admin does is counted at once, in the process that did it.
KEPT_SECONDS = 10.0
# Persons whose count is kept; a service has few admins.
_PERSONS_MAX = 200


class InboxCounts:
    """The counts of persons, each with the moment until which it is kept. It is used by all threads of a process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: dict[str, tuple[float, int]] = {}

    def get(self, person: str, count: Callable[[], int]) -> int:
        """Return the count of a person; `count` counts where none is kept."""
        until, kept = self._counts.get(person, (0.0, 0))
        if until > self._clock():
            return kept
        number = count()
        if len(self._counts) >= _PERSONS_MAX:
            self._counts.clear()
        self._counts[person] = (self._clock() + KEPT_SECONDS, number)
        return number

    def forget(self) -> None:
        """Forget all counts: something was done about an item, or a page shows the items themselves."""
        self._counts.clear()


INBOX_COUNTS = InboxCounts()
