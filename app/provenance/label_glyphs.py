"""The four characters of visible labels as strokes, so that no font is needed. Drawn for this program, as its licence.

A stroke is a line through points on a square of 100 by 100, x to the right and y down, with round ends.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Stroke = tuple[tuple[float, float], ...]

# Of each character: its width on the square, and its strokes.
_GLYPHS: dict[str, tuple[float, tuple[Stroke, ...]]] = {
    "A": (74, (((6, 92), (37, 8), (68, 92)), ((18, 63), (56, 63)))),
    "I": (24, (((12, 8), (12, 92)),)),
    "生": (
        100,
        (
            ((28, 8), (22, 24), (10, 42)),
            ((22, 30), (86, 30)),
            ((18, 60), (82, 60)),
            ((52, 8), (52, 92)),
            ((8, 92), (92, 92)),
        ),
    ),
    "成": (
        100,
        (
            ((16, 28), (92, 28)),
            ((18, 28), (18, 56), (15, 76), (6, 92)),
            ((20, 50), (44, 50), (43, 68), (41, 76), (32, 74)),
            ((56, 8), (58, 36), (64, 60), (74, 80), (86, 92), (91, 90), (93, 74)),
            ((84, 44), (76, 62), (62, 78), (44, 91)),
            ((72, 9), (84, 18)),
        ),
    ),
}
_WEIGHT = 10.0
_GAP = 10.0
# The text is drawn larger and reduced, which smooths its edges.
_OVERSAMPLING = 4


def draw_text(text: str, ink_height: int, *, weight: float = _WEIGHT) -> npt.NDArray[np.uint8]:
    """Return a text as how much each pixel is covered, uint8 [ink_height, w]; every character is as high as that.

    `weight` is the width of a stroke in hundredths of a character. Raises KeyError for a character without strokes.
    """
    # The square's strokes reach from 8 to 92, and their round ends half a stroke farther.
    scale = ink_height * _OVERSAMPLING / (84 + weight)
    advance, canvas = 0.0, []
    for character in text:
        width, strokes = _GLYPHS[character]
        canvas += [[(advance + x, y) for x, y in stroke] for stroke in strokes]
        advance += width + _GAP
    size = (round((advance - _GAP) * scale), ink_height * _OVERSAMPLING)
    image = Image.new("L", size)
    pen, top = ImageDraw.Draw(image), 8 - weight / 2
    for stroke in canvas:
        _draw_stroke(pen, [(x * scale, (y - top) * scale) for x, y in stroke], weight * scale)
    small = image.resize((max(1, size[0] // _OVERSAMPLING), ink_height), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.uint8)


def _draw_stroke(pen: ImageDraw.ImageDraw, points: Sequence[tuple[float, float]], width: float) -> None:
    pen.line(list(points), fill=255, width=max(1, round(width)))
    radius = width / 2
    for x, y in points:
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
