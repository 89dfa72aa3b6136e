"""The hashes of a film's frames, and the parts of them by which films with similar frames are found in an index."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from app.provenance.pdq import HASH_BYTES, QUALITY_MIN, pdq_hash

# The short side in pixels of a frame that is hashed: PDQ looks at 64 by 64 places.
_SHORT_SIDE = 256
# A wider frame is mostly border.
_ASPECT_MAX = 8
# A hash is cut into this many parts of 24 bits, of which similar hashes have one and more in common; the last 16 bits
# are in none. Two hashes that differ in at most 9 bits always share a part; of those that differ in 16, 9 of 10 do.
PARTS = 10
_PART_BITS = 24


def frame_hash(frame: Any) -> bytes | None:
    """Return the PDQ hash of a decoded frame (of PyAV), or None for one with too few features to be compared."""
    short, long = sorted((frame.width, frame.height))
    if short < 1 or long > _ASPECT_MAX * short:
        return None
    factor = _SHORT_SIDE / short
    width, height = round(frame.width * factor), round(frame.height * factor)
    luma = frame.reformat(width, height, "gray", interpolation="AREA", threads=1).to_ndarray()
    return hash_of_luma(luma)


def hash_of_luma(luma: npt.NDArray[np.uint8]) -> bytes | None:
    """Return the hash of a picture, uint8 [H, W], or None for one with too few features to be compared."""
    frame = pdq_hash(luma)
    return frame.value if frame.quality >= QUALITY_MIN else None


def hash_parts(hashes: bytes) -> list[int]:
    """Return the parts of some hashes, which lie one after the other, each with its place: integers of 28 bits."""
    parts = {
        number << _PART_BITS | int.from_bytes(each[3 * number : 3 * number + 3], "big")
        for each in split_hashes(hashes)
        for number in range(PARTS)
    }
    return sorted(parts)


def split_hashes(hashes: bytes) -> Sequence[bytes]:
    """Return the hashes that lie one after the other in `hashes`."""
    return [hashes[start : start + HASH_BYTES] for start in range(0, len(hashes), HASH_BYTES)]


def as_rows(hashes: bytes) -> npt.NDArray[np.uint8]:
    """Return the hashes that lie one after the other in `hashes` as the rows of an array, uint8 [n, 32]."""
    return np.frombuffer(hashes, np.uint8).reshape(-1, HASH_BYTES)
