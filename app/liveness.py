"""Whether this process still does its work: how long ago its loop last took a step, for the probe of its host."""

import threading
import time

# No step of a healthy process lasts longer, also where its database does not answer (db_connections.ANSWER_SECONDS).
SILENT_SECONDS = 120.0


class Liveness:
    """The steps of a process's loop: rounds, and each part of a long round. One that waits for its database goes on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._step_at: float | None = None  # on the monotonic clock

    def record_step(self) -> None:
        """Record that the loop goes on."""
        with self._lock:
            self._step_at = time.monotonic()

    def seconds_since_step(self) -> float | None:
        """Return the seconds since the last step, or None where the process has no loop, or none yet."""
        with self._lock:
            return None if self._step_at is None else time.monotonic() - self._step_at

    def is_alive(self) -> bool:
        """Return whether the process need not be replaced: it has no loop, or its loop goes on."""
        seconds = self.seconds_since_step()
        return seconds is None or seconds < SILENT_SECONDS


LIVENESS = Liveness()
