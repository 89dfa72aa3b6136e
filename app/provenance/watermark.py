"""The invisible watermark: a still pattern of weak patches, light or blue, that carries a film's id of 48 bits.

A film is marked by the same pattern in each of its frames, so a mean over frames keeps the pattern and blurs what
moves, frames may be dropped or doubled, and nothing flickers. The pattern lies on a grid of square patches ("chips")
whose size follows the short side of the frame. A third of the chips is the same in all films of one key: it finds the
pattern in a frame that was scaled, cropped or framed. The others carry the id, as `watermark_code` spreads it.

The derivation of the threshold, and what the mark survives: deploy/decisions/0161-the-watermark.md.
"""

import hashlib
import hmac
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from app.provenance.watermark_code import CODE_BITS, encode
from app.settings import get_settings

# Chips along the short side of a frame. At 720P a chip is 8 pixels wide: coarse enough for x264 at CRF 28 and for a
# reduction to 480P, and fine enough that the pictures' own differences between neighbouring chips are small.
CHIPS_SHORT = 90
# Chips of the plane in each direction: frames up to 12:5 are covered without repetition, wider ones repeat it.
PLANE = 216
# Height of a chip in levels of 255, from flat pictures to those full of detail: in luma, and in blue-difference chroma
# (Cb of BT.601), where pictures have little detail that the mark could be taken for. Light chips are less blue, so that
# the two changes of blue nearly cancel: 20 lg(255 / sqrt(4/9 * (l^2 - 0.95 l b + 1.09 b^2))) = 43.5 dB at most, as the
# pattern is interpolated between the chips' centres and its mean square is 4/9 of the square of its height.
FLAT, DETAILED = (0.6, 0.6), (2.4, 2.4)
# What a level of Cb adds to red, green and blue (ITU-R BT.601-7, 2.5).
_CB = (0.0, -0.344136, 1.772)
# The mean step between neighbouring pixels, in levels, from which a picture counts as full of detail.
_DETAILED_STEP = 4.0


@dataclass(frozen=True)
class Layout:
    """The plane of one key: what each chip carries.

    `signs` float32 [PLANE, PLANE], 1 or -1. `bits` int16 [PLANE, PLANE]: the number of the code bit that a chip
    carries, or -1 for a chip that only helps to find the pattern.
    """

    signs: npt.NDArray[np.float32]
    bits: npt.NDArray[np.int16]

    def chips(self, mark_id: int) -> npt.NDArray[np.float32]:
        """Return the chips of an id, 1 or -1, float32 [PLANE, PLANE]. Raises ValueError for more than 48 bits."""
        code = np.append(1 - 2 * encode(mark_id).astype(np.float32), np.float32(1))  # The last one is for bit -1.
        return np.asarray(self.signs * code[self.bits], dtype=np.float32)

    def sync(self) -> npt.NDArray[np.float32]:
        """Return the chips that are the same in every film, 1 or -1, and 0 elsewhere, float32 [PLANE, PLANE]."""
        return np.where(self.bits < 0, self.signs, np.float32(0))


def watermark_key() -> bytes:
    """Return the key of this home's watermarks, 32 bytes, derived from `CINEMETER_SECRET`.

    With another secret, films that were made before have no legible watermark any more.
    """
    return hmac.digest(get_settings().secret_key(), b"watermark", "sha256")


@lru_cache(maxsize=8)
def layout(key: bytes) -> Layout:
    """Return the plane of a key. Without the key the pattern can be neither found nor told from noise."""
    seed = int.from_bytes(hashlib.sha256(b"cinemeter watermark 1\0" + key).digest(), "big")
    generator = np.random.Generator(np.random.PCG64(seed))
    signs = generator.choice(np.array([-1, 1], dtype=np.float32), size=(PLANE, PLANE))
    # In each square of 3 by 3 chips a third helps to find the pattern. The others take the code bits in a random order,
    # each as often as the next within any part of the plane, so that a crop loses a little of every bit.
    bits = np.empty((PLANE, PLANE), dtype=np.int16)
    for top in range(0, PLANE, 3):
        for left in range(0, PLANE, 3):
            cell = np.zeros(9, dtype=np.int16)
            cell[:3] = -1
            bits[top : top + 3, left : left + 3] = generator.permutation(cell).reshape(3, 3)
    carriers = np.argwhere(bits >= 0)
    numbers = np.concatenate([generator.permutation(CODE_BITS) for _ in range(len(carriers) // CODE_BITS + 1)])
    bits[bits >= 0] = numbers[: len(carriers)]
    return Layout(signs, bits)


def _interpolation(length: int, chip: float) -> npt.NDArray[np.float32]:
    """Return the weights of the chips at each pixel of a line, float32 [length, PLANE]."""
    position = (np.arange(length) + 0.5) / chip - 0.5
    lower = np.floor(position).astype(int)
    share = (position - lower).astype(np.float32)
    weights = np.zeros((length, PLANE), dtype=np.float32)
    lines = np.arange(length)
    np.add.at(weights, (lines, lower % PLANE), 1 - share)
    np.add.at(weights, (lines, (lower + 1) % PLANE), share)
    return weights


class Watermark:
    """The mark of one film at one size, to be drawn into its frames.

    `key` belongs to the home, `mark_id` (48 bits) to the film; height and width in pixels, `heights` of a chip in luma
    and in Cb, in levels of 255. Raises ValueError for an id of more than 48 bits.
    """

    def __init__(
        self, key: bytes, mark_id: int, *, height: int, width: int, heights: tuple[float, float] = DETAILED
    ) -> None:
        chip = min(height, width) / CHIPS_SHORT
        chips = layout(key).chips(mark_id)
        pattern = _interpolation(height, chip) @ chips @ _interpolation(width, chip).T  # [H, W]
        luma, blue = heights
        levels = np.stack([np.rint(pattern * (luma - blue * share)) for share in _CB], axis=2)  # [H, W, 3]
        # As two unsigned patterns, of which one is 0 at each place: frames saturate without wider arithmetic.
        self._lighter = np.maximum(levels, 0).astype(np.uint8)  # [H, W, 3]
        self._darker = np.maximum(-levels, 0).astype(np.uint8)  # [H, W, 3]

    def fits(self, frames: npt.NDArray[Any]) -> bool:
        """Return whether the mark can be drawn into these frames: uint8 [f, H, W, 3] of its own size."""
        return frames.dtype == np.uint8 and frames.ndim == 4 and frames.shape[1:] == self._lighter.shape

    def draw(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return the frames, uint8 [f, H, W, 3], with the mark. What would be above 255 or below 0 is cut off."""
        marked: npt.NDArray[np.uint8] = np.minimum(frames, 255 - self._lighter)
        marked += self._lighter
        np.maximum(marked, self._darker, out=marked)
        marked -= self._darker
        return marked


def heights_for(frame: npt.NDArray[np.uint8]) -> tuple[float, float]:
    """Return the heights for a take that begins with this frame, uint8 [H, W, 3]: more where detail hides more.

    They stay for the whole take, as a pattern that changed would flicker.
    """
    green = frame[..., 1].astype(np.int16)
    detail = min(1.0, float(np.abs(np.diff(green, axis=1)).mean()) / _DETAILED_STEP)
    luma, blue = ((1 - detail) * flat + detail * most for flat, most in zip(FLAT, DETAILED, strict=True))
    return luma, blue
