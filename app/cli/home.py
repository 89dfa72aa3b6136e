"""The home: one folder with all data of `cinemeter up`, used by one process tree at a time."""

import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.errors import AppError

# The URL and the keys of the running service; exists while it runs.
ADDRESS_RECORD = "up.json"
# The keys of the first accounts, by name.
KEYS_RECORD = "keys.json"


@contextmanager
def claim_home(home: Path) -> Iterator[None]:
    """Lock the home for this process until the block ends. Raises AppError `conflict` if another process uses it.

    It is a kernel lock, so it ends with the process that holds it, however that process ended.
    """
    make_private(home)
    with (home / "lock").open("a+", encoding="utf-8") as file:
        # `is_claimed` in another command may hold the lock for a moment, so a failed attempt is repeated.
        for attempt in range(5):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if attempt == 4:
                    raise _in_use(home, file.name) from None
                time.sleep(0.05)
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def is_claimed(home: Path) -> bool:
    """Return whether a running process uses this home."""
    lock = home / "lock"
    if not lock.exists():
        return False
    with lock.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _in_use(home: Path, lock: str) -> AppError:
    pid = Path(lock).read_text(encoding="utf-8").strip() or "unknown"
    url = read_record(home / ADDRESS_RECORD).get("base_url")
    return AppError(
        "conflict",
        f"Cinemeter is already running in {home.resolve()} ({f'{url}, ' if url else ''}process {pid}). "
        "Stop it there with Ctrl-C, or use another --home.",
        home=str(home),
        pid=pid,
    )


def make_private(folder: Path) -> None:
    """Create `folder`, readable only by this user, if it does not exist. An existing folder is not changed."""
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700)


def read_record(path: Path) -> dict[str, Any]:
    """Return the JSON object in `path`, or an empty one if the file does not exist."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return record if isinstance(record, dict) else {}


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write `record` atomically, readable only by this user: after a crash the file has the old or the new content."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(record, file, indent=2)
        file.write("\n")
    draft.replace(path)
