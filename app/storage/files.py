"""Storage in a local folder. Every stored file is a new one, flushed to disk and then renamed into place."""

import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from app.storage.interface import Stat, StorageError, Stored, Upload, checked, named_prefix

CHUNK_BYTES = 2**20
# Keys never start with a dot, so no partial file is mistaken for a stored one.
_PARTIAL = ".partial"
# Tries to create a folder that a concurrent delete has just emptied and removed.
_TRIES = 5


class FileStorage:
    """A store in the folder `root`, which is created with the first file."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def put_file(self, key: str, path: Path, content_type: str) -> Stored:
        with _convert_errors(key), path.open("rb") as source:
            return write_whole(pieces_of(source), self._path(key), key=key, draft_folder=self.root / _PARTIAL)

    def get_file(self, key: str, path: Path) -> Stored:
        with _convert_errors(key), self._path(key).open("rb") as source:
            return write_whole(pieces_of(source), path, key=key, draft_folder=path.parent, durable=False)

    def stat(self, key: str) -> Stat | None:
        path = self._path(key)
        with _convert_errors(key):
            return _stat(key, path) if path.is_file() else None

    def read_range(self, key: str, start: int, end: int) -> Iterator[bytes]:
        with _convert_errors(key):
            file = self._path(key).open("rb")
            file.seek(start)
            if os.fstat(file.fileno()).st_size < end:
                file.close()
                raise StorageError(f"{key!r} is shorter than {end} bytes.")
        return pieces_of(file, end - start, close=True)

    def delete(self, key: str) -> None:
        path = self._path(key)
        with _convert_errors(key):
            path.unlink(missing_ok=True)
        for folder in list(path.relative_to(self.root).parents)[:-1]:
            try:
                (self.root / folder).rmdir()
            except OSError:
                return  # Not empty.

    def purge(self, prefix: str) -> int:
        keys = [stat.key for stat in self.list(named_prefix(prefix))]
        for key in keys:
            self.delete(key)
        return len(keys)

    def list(self, prefix: str) -> Iterator[Stat]:
        with _convert_errors(prefix):
            yield from _walk(self.root, "", prefix)

    def presign_get(self, key: str, *, seconds: int, filename: str, content_type: str) -> str | None:
        return None

    def presign_put(self, key: str, *, seconds: int, content_type: str, size: int) -> Upload | None:
        return None

    def remove_partial(self, before: datetime) -> int:
        old = [path for path in (self.root / _PARTIAL).glob("*") if path.stat().st_mtime < before.timestamp()]
        for path in old:
            path.unlink(missing_ok=True)
        return len(old)

    def _path(self, key: str) -> Path:
        path = self.root / checked(key)
        if not path.parent.resolve().is_relative_to(self.root.resolve()):
            raise ValueError(f"{key!r} is outside the storage folder")
        return path


def write_whole(pieces: Iterable[bytes], target: Path, *, key: str, draft_folder: Path, durable: bool = True) -> Stored:
    """Write `pieces` to `target` atomically, through a draft in `draft_folder` (on the same disk).

    `durable` waits until the disk has it. A file that was fetched need not survive a power loss: it is in the store.
    """
    draft_folder.mkdir(parents=True, exist_ok=True)
    draft = draft_folder / f".draft-{secrets.token_hex(12)}"
    digest, size = hashlib.sha256(), 0
    try:
        with draft.open("xb") as file:
            for piece in pieces:
                digest.update(piece)
                size += file.write(piece)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        _move(draft, target, durable=durable)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return Stored(key=key, bytes=size, sha256=digest.hexdigest())


def pieces_of(file: IO[bytes], count: int | None = None, *, close: bool = False) -> Iterator[bytes]:
    """Yield the next `count` bytes of `file` (None: all) in pieces, and close it at the end if `close`."""
    try:
        while (count is None or count > 0) and (
            piece := file.read(CHUNK_BYTES if count is None else min(CHUNK_BYTES, count))
        ):
            count = None if count is None else count - len(piece)
            yield piece
    finally:
        if close:
            file.close()


def _move(draft: Path, target: Path, *, durable: bool) -> None:
    for remaining in reversed(range(_TRIES)):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            draft.replace(target)
            break
        except (FileNotFoundError, FileExistsError):
            # A concurrent delete removed the empty folder between our steps; a file in its place is an error.
            if remaining == 0:
                raise
    if not durable:
        return
    # The rename survives a power loss only once its folder is on disk too.
    with suppress(FileNotFoundError):
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _walk(folder: Path, base: str, prefix: str) -> Iterator[Stat]:
    """Yield the files under `folder` in the order of their keys; skip folders that cannot contain `prefix`."""
    try:
        entries = [(entry.name + "/" if entry.is_dir() else entry.name) for entry in os.scandir(folder)]
    except FileNotFoundError:
        return
    for name in sorted(entries):
        key = base + name
        if name.startswith(".") or not (key.startswith(prefix) or (name.endswith("/") and prefix.startswith(key))):
            continue
        if name.endswith("/"):
            yield from _walk(folder / name, key, prefix)
        else:
            try:
                yield _stat(key, folder / name)
            except FileNotFoundError:
                continue  # Deleted meanwhile.


def _stat(key: str, path: Path) -> Stat:
    facts = path.stat()
    return Stat(key=key, bytes=facts.st_size, modified_at=datetime.fromtimestamp(facts.st_mtime, UTC))


@contextmanager
def _convert_errors(key: str) -> Iterator[None]:
    """Pass FileNotFoundError on, and convert other errors of the disk to StorageError."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StorageError(f"The storage folder failed at {key!r}: {error.strerror}.") from error
