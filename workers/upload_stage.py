"""The upload stage of a worker process: a thread that uploads and commits one take while the next one renders."""

import contextvars
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

log = logging.getLogger(__name__)


class UploadStage:
    """Runs one upload at a time, in order. Only the render thread submits and waits; other threads may read `is_busy`.

    There is room for one take; submitting the next one waits. A slow store therefore holds the renders back instead of
    filling the disk, and a crash costs at most the take that renders and the one that is being uploaded.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="upload")
        self._upload: Future[None] | None = None

    def submit(self, upload: Callable[[], None]) -> None:
        """Wait for room, start `upload` and return. It logs under the ids of the caller."""
        self.wait()
        context = contextvars.copy_context()
        self._upload = self._thread.submit(context.run, _run, upload)

    def is_busy(self) -> bool:
        """Return whether an upload is running."""
        return self._upload is not None and not self._upload.done()

    def wait(self, seconds: float | None = None) -> None:
        """Wait until no upload is running, at most `seconds`."""
        if self._upload is not None:
            wait([self._upload], timeout=seconds)

    def close(self) -> None:
        """Wait for the running upload and end the thread."""
        self._thread.shutdown(wait=True)


def _run(upload: Callable[[], None]) -> None:
    try:
        upload()
    except Exception:
        # The database was away: nothing was written, and the take's lease runs out like a dead worker's.
        log.exception("A take could not be ended; its lease is left to run out.")
