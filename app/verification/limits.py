"""What verification may cost: strangers ask for it, and each file takes seconds of a processor."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from app.assets.limits import MEBIBYTE
from app.errors import AppError

# The largest film that is sold (a minute at 1080P) is smaller.
FILE_BYTES_MAX = 100 * MEBIBYTE
FORM_BYTES_MAX = FILE_BYTES_MAX + 64 * 1024
FETCH_SECONDS = 20.0
# Wall clock of the process that reads a file, and of the one that seeks the watermark.
READ_SECONDS = 150.0
SEEK_SECONDS = 150.0
# Per process: files that are read, and URLs that are fetched, at once. None waits.
READ_TOGETHER = 2
FETCHED_TOGETHER = 4
# Per minute, of one address of strangers.
PER_MINUTE = 10
RETRY_SECONDS = 10

_readers = threading.BoundedSemaphore(READ_TOGETHER)
_fetchers = threading.BoundedSemaphore(FETCHED_TOGETHER)


@contextmanager
def reading_slot() -> Iterator[None]:
    """Hold one of the places of files that are read. Raises AppError `unavailable` where none is free."""
    with _hold(_readers):
        yield


@contextmanager
def fetching_slot() -> Iterator[None]:
    """Hold one of the places of URLs that are fetched. Raises AppError `unavailable` where none is free."""
    with _hold(_fetchers):
        yield


@contextmanager
def _hold(places: threading.BoundedSemaphore) -> Iterator[None]:
    if not places.acquire(blocking=False):
        message = "Other files are being verified at this moment; nothing was done. Try again in some seconds."
        raise AppError("unavailable", message, retry_after=RETRY_SECONDS)
    try:
        yield
    finally:
        places.release()
