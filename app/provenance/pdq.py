"""PDQ: a hash of 256 bits of what a picture looks like. Pictures that look alike have hashes of few different bits.

Published by Meta in 2019. The luma is blurred and reduced to 64 by 64; of its cosine transform the 16 by 16 lowest
frequencies without the mean are kept, and each gives the bit whether it is above their median.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

BITS = 256
HASH_BYTES = BITS // 8
# By the advice of its authors: pictures are alike up to so many different bits, and pictures of less quality (0 to 100)
# have too few features to be compared.
DISTANCE_MAX = 31
QUALITY_MIN = 50

_SIDE = 64  # of the reduced luma
_FREQUENCIES = 16

Plane = npt.NDArray[np.float32]


@dataclass(frozen=True)
class PdqHash:
    """The hash of a picture, HASH_BYTES bytes in the order in which it is written as hex, and its quality, 0 to 100."""

    value: bytes
    quality: int


def pdq_hash(luma: npt.NDArray[np.uint8]) -> PdqHash:
    """Return the hash of a picture, uint8 [H, W]: its luma. Raises ValueError for sides of fewer than 64 pixels."""
    if min(luma.shape) < _SIDE:
        raise ValueError(f"a picture needs sides of at least {_SIDE} pixels")
    small = _reduce(_reduce(luma.astype(np.float32)).T).T  # [64, 64]
    transform = _transform()
    values = transform @ small @ transform.T  # [16, 16]
    # Of an even number of values the median is the lower of the two in the middle.
    median = np.partition(values, BITS // 2 - 1, axis=None)[BITS // 2 - 1]
    bits = (values > median).ravel()
    # Bit 0 is the lowest of the last byte.
    return PdqHash(np.packbits(bits[::-1]).tobytes(), _quality(small))


def distances(hashes: npt.NDArray[np.uint8], others: npt.NDArray[np.uint8]) -> npt.NDArray[np.intp]:
    """Return in how many bits each of n hashes, uint8 [n, 32], differs from each of m others, uint8 [m, 32]: [n, m]."""
    differing = hashes[:, None, :] ^ others[None, :, :]
    return np.asarray(np.unpackbits(differing, axis=2).sum(axis=2, dtype=np.intp))


def _reduce(plane: Plane) -> Plane:
    """Blur the columns of a plane, [size, n], and reduce them to 64 values, [64, n]."""
    places, weights = _reduction(len(plane))
    # No product of matrices: for so few values, a library that starts threads for one costs more than the work.
    return np.asarray(np.einsum("kt,ktn->kn", weights, plane[places]), dtype=np.float32)


@lru_cache(maxsize=32)
def _reduction(size: int) -> tuple[npt.NDArray[np.intp], Plane]:
    """Return how a side of `size` values is blurred and reduced: places and weights, [64, t] each.

    Each value is blurred to the mean of a window around it, twice; at the ends the window is smaller. Of the result the
    values in the middles of 64 equal parts are used, and each is a weighted sum of few values.
    """
    window = -(-size // (2 * _SIDE))
    ahead = (window + 2) // 2
    values = np.arange(size)
    ends = np.minimum(values + ahead, size)[:, None]
    starts = np.maximum(values + ahead - window, 0)[:, None]
    means = np.logical_and(starts <= values, ends > values) / (ends - starts)  # [size, size]
    middles = ((np.arange(_SIDE) + 0.5) * size / _SIDE).astype(int)
    weights = means[middles] @ means  # [64, size]
    taps = min(size, 2 * window)
    first = np.minimum(np.argmax(weights > 0, axis=1), size - taps)
    places = first[:, None] + np.arange(taps)
    return places, np.take_along_axis(weights, places, axis=1).astype(np.float32)


@lru_cache(maxsize=1)
def _transform() -> npt.NDArray[np.float64]:
    """Return the rows of the cosine transform (DCT-II) of 64 values for the frequencies 1 to 16, [16, 64]."""
    frequencies = np.arange(1, _FREQUENCIES + 1)[:, None]
    return np.asarray(np.sqrt(2 / _SIDE) * np.cos(np.pi / (2 * _SIDE) * frequencies * (2 * np.arange(_SIDE) + 1)))


def _quality(small: Plane) -> int:
    """Return how many features a reduced picture has, 0 to 100: from the steps between neighbouring values."""
    steps = sum(float(np.abs(np.trunc(np.diff(small, axis=axis) * 100 / 255)).sum()) for axis in (0, 1))
    return min(100, int(steps / 90))
