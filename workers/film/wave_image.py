"""A picture of a film's sound: its peaks over time, for the strip under a player."""

from pathlib import Path

import numpy as np
from PIL import Image

from workers.film.sound_file import Samples

WIDTH, HEIGHT = 1200, 96
# Between the greys of light and dark pages.
_COLOUR = (122, 132, 150)


class WaveImage:
    """Draws the wave of a film's sound, of `samples` samples, as it is decoded: `read` is called with each piece.

    Every column shows the highest level of its share of the film; the quietest is a line.
    """

    def __init__(self, samples: int) -> None:
        self._samples = max(1, samples)
        self._levels = np.zeros(WIDTH, np.float32)
        self._position = 0

    def read(self, piece: Samples) -> None:
        """Take in the next samples, float32 [n, 2]."""
        if not len(piece):
            return
        levels = np.abs(piece).max(axis=1)
        columns = np.minimum((self._position + np.arange(len(piece))) * WIDTH // self._samples, WIDTH - 1)
        # The columns never fall, so those of one number lie side by side.
        starts = np.flatnonzero(np.diff(columns, prepend=-1))
        touched = columns[starts]
        self._levels[touched] = np.maximum(self._levels[touched], np.maximum.reduceat(levels, starts))
        self._position += len(piece)

    def write(self, out: Path) -> None:
        """Write the wave as a transparent PNG of `WIDTH` × `HEIGHT`."""
        # The root shows quiet sounds beside loud ones, as the ear hears them.
        half = np.maximum(0.5, np.sqrt(np.minimum(self._levels, 1.0)) * HEIGHT / 2)
        rows = np.abs(np.arange(HEIGHT) + 0.5 - HEIGHT / 2)
        picture = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
        picture[..., :3] = _COLOUR
        picture[..., 3] = np.where(rows[:, None] <= half[None, :], 255, 0)
        Image.fromarray(picture).save(out, "PNG", compress_level=1)
