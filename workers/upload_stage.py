"""The tail of a worker process: a thread that uploads and ends one take beside the render of the next."""

import contextvars
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

log = logging.getLogger(__name__)


class UploadStage:
    """Ends takes one at a time, in order. Only the main thread gives and waits; others may ask whether it is busy.

    There is room for one take: who comes with the next waits, so that a slow store holds the renders back instead of
    filling the disk, and a crash never costs more than the take that renders and the one that is being uploaded.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tail")
        self._ending: Future[None] | None = None

    def give(self, end: Callable[[], None]) -> None:
        """Wait for room, then begin to `end` a take and return. `end` logs under the ids of the caller."""
        self.wait()
        context = contextvars.copy_context()
        self._ending = self._thread.submit(context.run, _carry, end)

    def is_busy(self) -> bool:
        """Return whether a take is being ended now."""
        return self._ending is not None and not self._ending.done()

    def wait(self, seconds: float | None = None) -> None:
        """Wait until nothing is being ended, or for so many seconds."""
        if self._ending is not None:
            wait([self._ending], timeout=seconds)

    def close(self) -> None:
        """Wait for what is being ended and end the thread."""
        self._thread.shutdown(wait=True)


def _carry(end: Callable[[], None]) -> None:
    try:
        end()
    except Exception:
        # The database was away just then: nothing was written, and the take's lease runs out like a dead worker's.
        log.exception("A take could not be ended; its lease is left to run out.")
