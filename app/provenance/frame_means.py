"""Means of a clip's frames, in which its watermark is sought, as one file between two processes."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from app.provenance.watermark_reader import READ_SIDE, WINDOWS_MAX, Plane, reduce

# Windows of a clip of which a mean is kept. A longer clip is read in so many places.
WINDOWS_READ = 20
assert WINDOWS_READ <= WINDOWS_MAX
# Wider or higher frames are not read.
ASPECT_MAX = 4
_FILE = "means.npy"
# A level of 255 in steps of a 256th.
_STEPS = 256


class FrameMeans:
    """The means of the windows of a clip, in their order."""

    def __init__(self) -> None:
        self._sums: dict[int, tuple[npt.NDArray[np.float64], int]] = {}
        self._shape: tuple[int, ...] | None = None

    def add(self, window: int, planes: npt.NDArray[np.uint8]) -> None:
        """Count a frame, uint8 [3, H, W] of luma and chroma, for a window. Frames of another size are left out."""
        _, height, width = planes.shape
        if max(height, width) > ASPECT_MAX * min(height, width):
            return
        frame = reduce(planes)
        self._shape = self._shape or frame.shape
        if frame.shape != self._shape:
            return
        if window in self._sums:
            total, count = self._sums[window]
            total += frame
            self._sums[window] = (total, count + 1)
        else:
            self._sums[window] = (frame.astype(np.float64), 1)

    def save(self, folder: Path) -> None:
        """Write the means into a folder, where there are any."""
        if self._sums:
            means = np.stack([total / count for total, count in self._sums.values()])
            np.save(folder / _FILE, np.rint(means * _STEPS).astype(np.uint16))


def load_means(folder: Path) -> list[Plane]:
    """Return the means that lie in a folder, each float32 [2, h, w]; none where there are none.

    Raises ValueError for a file that `FrameMeans` did not write.
    """
    path = folder / _FILE
    if path.is_symlink() or not path.is_file():
        return []
    means: npt.NDArray[Any] = np.load(path, allow_pickle=False)
    if means.dtype != np.uint16 or means.ndim != 4 or not 0 < len(means) <= WINDOWS_READ or means.shape[1] != 2:
        raise ValueError("the means have an impossible shape")
    if not READ_SIDE == min(means.shape[2:]) <= max(means.shape[2:]) <= ASPECT_MAX * READ_SIDE:
        raise ValueError("the means have an impossible size")
    return list(means.astype(np.float32) / np.float32(_STEPS))
