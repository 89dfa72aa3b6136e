"""Read the metadata tags of an MP4 file from its own boxes (ISO/IEC 14496-12), without a media library."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

# A file of strangers may name any size: these limits bound what is read of it.
BOXES_MAX = 10_000
VALUE_BYTES_MAX = 65_536
_UTF8 = 1


class _Box(NamedTuple):
    """One box: its type, and where its content begins and ends in the file, in bytes."""

    kind: bytes
    start: int
    end: int


def read_tags(path: Path) -> list[tuple[str, str]]:
    """Return the text tags under `moov/udta/meta`, in the file's order; empty where there are none.

    Raises ValueError for boxes that do not fit into one another, that are too many, or whose text is not UTF-8.
    """
    with path.open("rb") as file:
        inner = _Box(b"", 0, path.stat().st_size)
        for kind in (b"moov", b"udta", b"meta"):
            box = next((box for box in _boxes(file, inner.start, inner.end) if box.kind == kind), None)
            if box is None:
                return []
            inner = box
        # `meta` is a full box: a version and flags come before its children.
        parts = {box.kind: box for box in _boxes(file, inner.start + 4, inner.end)}
        if b"keys" not in parts or b"ilst" not in parts:
            return []
        return _values(file, _keys(file, parts[b"keys"]), parts[b"ilst"])


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[_Box]:
    """Yield the boxes between two positions. Raises ValueError for one that does not fit."""
    count = 0
    while start < end:
        count += 1
        if count > BOXES_MAX:
            raise ValueError("it has too many boxes")
        size, kind = struct.unpack(">I4s", _read(file, start, 8, end))
        content = start + 8
        if size == 1:
            (size,) = struct.unpack(">Q", _read(file, content, 8, end))
            content += 8
        stop = end if size == 0 else start + size
        if not content <= stop <= end:
            raise ValueError("one of its boxes has an impossible size")
        yield _Box(kind, content, stop)
        start = stop


def _keys(file: BinaryIO, box: _Box) -> list[str]:
    (count,) = struct.unpack(">I", _read(file, box.start + 4, 4, box.end))
    keys: list[str] = []
    for entry in _boxes(file, box.start + 8, box.end):
        keys.append(_read(file, entry.start, _length(entry), entry.end).decode())
    if len(keys) != count:
        raise ValueError("its tags are not as many as it says")
    return keys


def _values(file: BinaryIO, keys: list[str], box: _Box) -> list[tuple[str, str]]:
    tags: list[tuple[str, str]] = []
    for item in _boxes(file, box.start, box.end):
        number = int.from_bytes(item.kind, "big")
        if not 1 <= number <= len(keys):
            raise ValueError("one of its tags has no name")
        for data in _boxes(file, item.start, item.end):
            if data.kind != b"data":
                continue
            # The type and the language come before the value.
            (kind,) = struct.unpack(">I", _read(file, data.start, 4, data.end))
            value = _Box(data.kind, data.start + 8, data.end)
            if kind == _UTF8:
                tags.append((keys[number - 1], _read(file, value.start, _length(value), value.end).decode()))
    return tags


def _length(box: _Box) -> int:
    if not 0 <= box.end - box.start <= VALUE_BYTES_MAX:
        raise ValueError("one of its tags is too long")
    return box.end - box.start


def _read(file: BinaryIO, start: int, count: int, end: int) -> bytes:
    if start + count > end:
        raise ValueError("one of its boxes ends too early")
    file.seek(start)
    data = file.read(count)
    if len(data) != count:
        raise ValueError("it ends inside a box")
    return data
