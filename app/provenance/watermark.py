"""The invisible watermark: a still pattern of weak light and dark patches that carries a film's id of 48 bits.

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

import numpy as np
import numpy.typing as npt

from app.provenance.watermark_code import CODE_BITS, encode
from app.settings import get_settings

# Chips along the short side of a frame. At 720P a chip is 8 pixels wide: coarse enough for x264 at CRF 28 and for a
# reduction to 480P, and fine enough that the pictures' own differences between neighbouring chips are small.
CHIPS_SHORT = 90
# Chips of the plane in each direction: frames up to 12:5 are covered without repetition, wider ones repeat it.
PLANE = 216
# Height of a chip in levels of 255, from flat pictures to those full of detail. Between the chips' centres the pattern
# is interpolated, so its mean square is 4/9 of the square of this: at most 20 lg(255 / (2/3 * 2.6)) = 43.3 dB.
AMPLITUDE_FLAT, AMPLITUDE_DETAILED = 1.2, 2.6
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

    `key` belongs to the home, `mark_id` (48 bits) to the film; height and width in pixels, amplitude in levels of 255.
    Raises ValueError for an id of more than 48 bits.
    """

    def __init__(self, key: bytes, mark_id: int, *, height: int, width: int, amplitude: float) -> None:
        chip = min(height, width) / CHIPS_SHORT
        chips = layout(key).chips(mark_id)
        pattern = _interpolation(height, chip) @ chips @ _interpolation(width, chip).T * amplitude  # [H, W]
        levels = np.rint(pattern).astype(np.int16)[..., None]  # [H, W, 1]
        # As two unsigned patterns, of which one is 0 at each pixel: frames saturate without wider arithmetic.
        self._lighter = np.repeat(np.maximum(levels, 0).astype(np.uint8), 3, axis=2)  # [H, W, 3]
        self._darker = np.repeat(np.maximum(-levels, 0).astype(np.uint8), 3, axis=2)  # [H, W, 3]

    def draw(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return the frames, uint8 [f, H, W, 3], with the mark. What would be above 255 or below 0 is cut off."""
        marked = np.minimum(frames, 255 - self._lighter)
        marked += self._lighter
        np.maximum(marked, self._darker, out=marked)
        marked -= self._darker
        return marked


def amplitude_for(frame: npt.NDArray[np.uint8]) -> float:
    """Return the amplitude for a take that begins with this frame, uint8 [H, W, 3]: more where detail hides more.

    It stays for the whole take, as a pattern that changed would flicker.
    """
    green = frame[..., 1].astype(np.int16)
    step = float(np.abs(np.diff(green, axis=1)).mean())
    return AMPLITUDE_FLAT + (AMPLITUDE_DETAILED - AMPLITUDE_FLAT) * min(1.0, step / _DETAILED_STEP)
