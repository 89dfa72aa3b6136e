"""A picture of a film's sound: its peaks over time, for the strip under a player."""

from pathlib import Path

import numpy as np
from PIL import Image

from workers.film.sound_file import sound_pieces

WIDTH, HEIGHT = 1200, 96
# Between the greys of light and dark pages.
_COLOUR = (122, 132, 150)


def wave_image(film: Path, out: Path, *, samples: int) -> None:
    """Write the wave of a film's sound, of `samples` samples at 48 kHz, as a transparent PNG of `WIDTH` × `HEIGHT`.

    Every column shows the highest level of its share of the film; the quietest is a line. Raises FilmError when the
    film has no sound.
    """
    levels = np.zeros(WIDTH, np.float32)
    position = 0
    for piece in sound_pieces(film):
        columns = np.minimum((position + np.arange(len(piece))) * WIDTH // max(1, samples), WIDTH - 1)
        np.maximum.at(levels, columns, np.abs(piece).max(axis=1))
        position += len(piece)
    # The root shows quiet sounds beside loud ones, as the ear hears them.
    half = np.maximum(0.5, np.sqrt(np.minimum(levels, 1.0)) * HEIGHT / 2)
    rows = np.abs(np.arange(HEIGHT) + 0.5 - HEIGHT / 2)
    picture = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    picture[..., :3] = _COLOUR
    picture[..., 3] = np.where(rows[:, None] <= half[None, :], 255, 0)
    Image.fromarray(picture).save(out, "PNG", optimize=True)
