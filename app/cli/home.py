"""The home: one folder with everything that `cinemeter up` keeps, used by one process tree at a time."""

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

# Where the running service can be reached, and its keys; there while it is up.
ADDRESS_RECORD = "up.json"
# The keys of the first accounts, by name.
KEYS_RECORD = "keys.json"


@contextmanager
def claim_home(home: Path) -> Iterator[None]:
    """Hold the home for this process until the block ends; raise `conflict` if another process holds it.

    The claim is a lock of the kernel, so it is gone with its holder, however that one ended.
    """
    make_private(home)
    with (home / "lock").open("a+", encoding="utf-8") as file:
        # `is_claimed` of another command may hold the lock for a blink, so one refusal is not yet an answer.
        for attempt in range(5):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if attempt == 4:
                    raise _taken(home, file.name) from None
                time.sleep(0.05)
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def is_claimed(home: Path) -> bool:
    """Say whether a running process holds this home."""
    lock = home / "lock"
    if not lock.exists():
        return False
    with lock.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _taken(home: Path, lock: str) -> AppError:
    pid = Path(lock).read_text(encoding="utf-8").strip() or "unknown"
    address = read_record(home / ADDRESS_RECORD).get("base_url")
    return AppError(
        "conflict",
        f"Cinemeter is already up in {home.resolve()} ({f'{address}, ' if address else ''}process {pid}). "
        "End it there with Ctrl-C, or give this one another --home.",
        home=str(home),
        pid=pid,
    )


def make_private(folder: Path) -> None:
    """Make `folder` for this user alone, if it is not there; the permissions of an existing one are left alone."""
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700)


def read_record(path: Path) -> dict[str, Any]:
    """Return the JSON object in `path`, or an empty one if there is no such file."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return record if isinstance(record, dict) else {}


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write `record` so that only this user can read it, and so that a crash leaves the old or the new one whole."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(record, file, indent=2)
        file.write("\n")
    draft.replace(path)
