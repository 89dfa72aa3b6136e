"""The sound of a segment: checked as it leaves the engine, because it is sold."""

import numpy as np

from workers.engine import BadSound, Sound
from workers.film.sound_file import SILENCE_PEAK

# A model's sound may end this much before its pictures: causal codecs leave out up to 32 ms. The finish pads it.
MISSING_SECONDS_MAX = 0.1


def sold_sound(sound: Sound | None, *, frames: int, fps: int) -> Sound:
    """Return the sound of a segment of `frames` frames, where sound was ordered.

    Raises BadSound when the engine made none, when it is digital silence, and when it is shorter than the pictures by
    more than `MISSING_SECONDS_MAX`. That its samples are finite and in range, `Sound` has checked itself.
    """
    if sound is None:
        raise BadSound("sound was ordered and the model made none")
    seconds = len(sound.samples) / sound.rate
    if seconds < frames / fps - MISSING_SECONDS_MAX:
        raise BadSound(f"the sound lasts {seconds:.3f} seconds, the pictures {frames / fps:.3f}")
    if np.abs(sound.samples).max(initial=0.0) < SILENCE_PEAK:
        raise BadSound("sound was ordered and the model made digital silence")
    return sound
