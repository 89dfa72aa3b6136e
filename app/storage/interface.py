"""What every store can do. Files are there whole or not at all, and each store answers alike."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from app.errors import AppError

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
_KEY_LENGTH_MAX = 512


class StorageError(AppError):
    """The store cannot be reached, or failed; the same call may succeed later."""

    def __init__(self, message: str) -> None:
        super().__init__("unavailable", message)


@dataclass(frozen=True)
class Stored:
    """A file that was stored or fetched: its size and the SHA-256 of its bytes, in hex."""

    key: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Stat:
    """What the store says about a file."""

    key: str
    bytes: int
    modified_at: datetime


@dataclass(frozen=True)
class Upload:
    """Where and how a customer's own client puts a file: send `method` to `url` with exactly these headers."""

    url: str
    method: str = "PUT"
    headers: dict[str, str] = field(default_factory=dict)


class Storage(Protocol):
    """Files by key. Keys are relative paths of letters, digits and `._-`; another one raises ValueError.

    Missing files raise FileNotFoundError; a store that fails raises StorageError.
    """

    def put_file(self, key: str, path: Path, content_type: str) -> Stored:
        """Store the file at `path` under `key`; what was there is replaced only by the whole new file."""

    def get_file(self, key: str, path: Path) -> Stored:
        """Write the stored file to `path`, which appears only when it is whole."""

    def stat(self, key: str) -> Stat | None:
        """Return what is known about `key`, or None when nothing is stored there."""

    def read_range(self, key: str, start: int, end: int) -> Iterator[bytes]:
        """Return the bytes `start` to `end` (exclusive) in pieces. A missing file raises before the first piece.

        The range lies within the file, as `stat` tells; where it does not, StorageError is raised.
        """

    def delete(self, key: str) -> None:
        """Remove `key`; removing what is not there is no error."""

    def list(self, prefix: str) -> Iterator[Stat]:
        """Return everything whose key begins with `prefix` (empty: everything), in the order of the keys."""

    def presign_get(self, key: str, *, seconds: int, filename: str, content_type: str) -> str | None:
        """Return a URL that delivers `key` for so long without our help, or None where the store has none."""

    def presign_put(self, key: str, *, seconds: int, content_type: str, size: int) -> Upload | None:
        """Return where a client may put `key` itself, `size` bytes and no other number, or None where there is no such.

        The length is signed, but stores differ: whoever confirms the upload must look at its size.
        """

    def remove_partial(self, before: datetime) -> int:
        """Remove uploads that were begun before that moment and never ended; return how many."""


def checked(key: str) -> str:
    """Return `key`. Raises ValueError when it is not a plain relative path that every store can hold."""
    if not _KEY.fullmatch(key) or len(key) > _KEY_LENGTH_MAX:
        raise ValueError(f"{key!r} is no storage key")
    return key
