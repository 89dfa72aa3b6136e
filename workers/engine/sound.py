"""Sound as engines make it: samples of two channels, and how many belong to so many frames."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from workers.engine.errors import EngineError

SOUND_RATE = 48_000
"""Samples per second of the sound that films are stored with."""

Samples = npt.NDArray[np.float32]


class BadSound(EngineError):
    """A model made sound that cannot be stored: not finite, out of range, or of the wrong shape."""


@dataclass(frozen=True, eq=False)
class Sound:
    """A clip's sound: `samples` float32 [n, 2], left and right in -1..1, `rate` of them per second.

    Raises BadSound for samples of another type or shape, for such as are not finite or out of range, and for a rate
    below 1.
    """

    samples: Samples
    rate: int = SOUND_RATE

    def __post_init__(self) -> None:
        if self.samples.dtype != np.float32 or self.samples.ndim != 2 or self.samples.shape[1] != 2:
            raise BadSound(f"sound is float32 [n, 2], not {self.samples.dtype} {list(self.samples.shape)}")
        if self.rate < 1:
            raise BadSound(f"the rate of sound is 1 or more samples per second, not {self.rate}")
        if not np.isfinite(self.samples).all():
            raise BadSound("the sound holds samples that are no finite numbers")
        peak = float(np.abs(self.samples).max(initial=0.0))
        if peak > 1.0:
            raise BadSound(f"the sound reaches {peak:.3f}; samples lie in -1 to 1")


def sample_count(frames: int, fps: int | Fraction, rate: int = SOUND_RATE) -> int:
    """Samples of sound that last as long as so many frames, rounded half up."""
    return int(Fraction(frames * rate) / Fraction(fps) + Fraction(1, 2))
