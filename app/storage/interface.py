"""The interface of every store. Files appear atomically, and all stores behave alike."""

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
    """The store is unreachable or failed; the same call may succeed later."""

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
    """The store's facts about a file."""

    key: str
    bytes: int
    modified_at: datetime


@dataclass(frozen=True)
class Upload:
    """How a customer's client uploads a file: send `method` to `url` with exactly these headers."""

    url: str
    method: str = "PUT"
    headers: dict[str, str] = field(default_factory=dict)


class Storage(Protocol):
    """Files by key. Keys are relative paths of letters, digits and `._-`; any other raises ValueError.

    Missing files raise FileNotFoundError; a store that fails raises StorageError.
    """

    def put_file(self, key: str, path: Path, content_type: str) -> Stored:
        """Store the file at `path` under `key`; an existing file is replaced atomically."""

    def get_file(self, key: str, path: Path) -> Stored:
        """Write the stored file to `path`, which appears only when complete."""

    def stat(self, key: str) -> Stat | None:
        """Return the facts about `key`, or None when nothing is stored there."""

    def read_range(self, key: str, start: int, end: int) -> Iterator[bytes]:
        """Return the bytes `start` to `end` (exclusive) in pieces. A missing file raises before the first piece.

        Raises StorageError when the range is not within the file.
        """

    def delete(self, key: str) -> None:
        """Delete `key`; a missing file is no error."""

    def purge(self, prefix: str) -> int:
        """Delete all files whose key starts with `prefix`, with every version that the store keeps; return how many.

        Files that were deleted before have versions too. Raises ValueError for an empty prefix.
        """

    def list(self, prefix: str) -> Iterator[Stat]:
        """Return all files whose key starts with `prefix` (empty: all), in the order of the keys."""

    def presign_get(self, key: str, *, seconds: int, filename: str, content_type: str) -> str | None:
        """Return a URL that delivers `key` from the store for `seconds`, or None when the store has none."""

    def presign_put(self, key: str, *, seconds: int, content_type: str, size: int) -> Upload | None:
        """Return the URL to which a client may put exactly `size` bytes as `key`, or None when the store has none.

        The length is signed, but not every store enforces it: the size must be checked when the upload is confirmed.
        """

    def remove_partial(self, before: datetime) -> int:
        """Delete uploads that were started before `before` and never completed; return how many."""


def checked(key: str) -> str:
    """Return `key`. Raises ValueError unless it is a relative path that every store accepts."""
    if not _KEY.fullmatch(key) or len(key) > _KEY_LENGTH_MAX:
        raise ValueError(f"{key!r} is not a storage key")
    return key


def named_prefix(prefix: str) -> str:
    """Return `prefix`. Raises ValueError for an empty one, which would be the whole store."""
    if not prefix:
        raise ValueError("a prefix to purge must not be empty")
    return prefix
