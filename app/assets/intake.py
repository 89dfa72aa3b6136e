"""How many files are taken at once. Each holds a thread and a session of its process while it is fetched and read."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from app.errors import AppError

# Of one process: half of its sessions (app.db) stay for everybody who uploads nothing.
TOGETHER_MAX = 16
# Of one account: slow addresses of one customer must not keep another's file out.
EACH_MAX = 6
_RETRY_SECONDS = 5

_lock = threading.Lock()
_taking: Counter[str] = Counter()


@contextmanager
def place(account_id: str) -> Iterator[None]:
    """Hold one of the places for the block.

    Raises AppError `rate_limited` when the account has too many files under way, and `unavailable` when all of us do.
    """
    with _lock:
        if _taking[account_id] >= EACH_MAX:
            message = f"{EACH_MAX} files of this account are being taken already; send the next when one is done."
            raise AppError("rate_limited", message, allowed=EACH_MAX, retry_after=_RETRY_SECONDS)
        if _taking.total() >= TOGETHER_MAX:
            message = "Too many files are being taken at this moment; try again in some seconds."
            raise AppError("unavailable", message, retry_after=_RETRY_SECONDS)
        _taking[account_id] += 1
    try:
        yield
    finally:
        with _lock:
            _taking[account_id] -= 1
            if not _taking[account_id]:
                del _taking[account_id]
