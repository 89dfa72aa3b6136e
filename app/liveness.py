"""Whether this process still does its work: how long ago its loop last began a round, for the probe of its host."""

import threading
import time

# No round of a healthy process lasts longer, also where its database does not answer.
SILENT_SECONDS = 120.0


class Liveness:
    """The rounds of a process's loop. A loop that waits for its database goes on with its rounds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._round_at: float | None = None  # on the monotonic clock

    def record_round(self) -> None:
        """Record that the loop begins a round."""
        with self._lock:
            self._round_at = time.monotonic()

    def seconds_since_round(self) -> float | None:
        """Return the seconds since the last round began, or None where the process has no loop, or none yet."""
        with self._lock:
            return None if self._round_at is None else time.monotonic() - self._round_at

    def is_alive(self) -> bool:
        """Return whether the process need not be replaced: it has no loop, or its loop goes on."""
        seconds = self.seconds_since_round()
        return seconds is None or seconds < SILENT_SECONDS


LIVENESS = Liveness()
