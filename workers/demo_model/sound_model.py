"""Sound for a clip of the demo model: from what is seen in its pictures to samples, segment by segment of a shot."""

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from workers.demo_model.config import FPS, NATIVE_SIZES, ratio_of
from workers.demo_model.object_tracks import seen_tracks
from workers.demo_model.sound_law import Controls, controls_of
from workers.demo_model.sound_synthesis import SoundCarry, synthesise
from workers.engine.sound import SOUND_RATE, Sound, sample_count

Pictures = npt.NDArray[np.uint8]


class SoundModel:
    """The law of sound, applied to the objects that are seen in a clip. It has no weights and keeps nothing."""

    def generate(
        self,
        pictures: Pictures,
        *,
        seed: int,
        frames: int,
        fps: int | Fraction,
        pictures_fps: int | Fraction = FPS,
        start: float = 0.0,
        carry: SoundCarry | None = None,
    ) -> tuple[Sound, SoundCarry]:
        """Make the sound of a segment, and what continues it in the next one.

        `pictures` uint8 [F, H, W, 3] are all frames that were decoded, at `pictures_fps`, those that a hand-over
        repeats included: they show what moves when the delivered part begins, `start` seconds after the first of them.
        `frames` are delivered at `fps`; the sound has round(frames · 48000 / fps) samples, and its last tones go on if
        the pictures end before. `seed` decides the noise of clicks. With the `carry` of the segment before, the sound
        goes on without a step.
        """
        samples, after = synthesise(
            hear_pictures(pictures, pictures_fps), sample_count(frames, fps), seed=seed, start=start, carry=carry
        )
        return Sound(samples, SOUND_RATE), after


def hear_pictures(pictures: Pictures, fps: int | Fraction = FPS) -> Controls:
    """What a clip of any size and frame rate sounds like."""
    native = native_pictures(pictures, fps)
    return controls_of(seen_tracks(native), len(native))


def native_pictures(pictures: Pictures, fps: int | Fraction = FPS) -> Pictures:
    """A clip [F, H, W, 3] in the native size of its ratio and at the native frame rate, by nearest neighbours."""
    count, height, width, _ = pictures.shape
    every = Fraction(fps) / FPS
    if every != 1:
        rows = [round(index * every) for index in range(int((count - 1) / every) + 1)]
        pictures = pictures[rows]
    native_width, native_height = NATIVE_SIZES[ratio_of(width, height)]
    if (native_width, native_height) == (width, height):
        return pictures
    across = ((np.arange(native_width) + 0.5) * width / native_width).astype(int)
    down = ((np.arange(native_height) + 0.5) * height / native_height).astype(int)
    return pictures[:, down[:, None], across[None, :]]
