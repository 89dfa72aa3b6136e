"""The visible label on a film's poster and sprite sheet, where the film shows it only at the start of its shots."""

from pathlib import Path

import numpy as np
from PIL import Image

from app.provenance.label_policy import VisibleLabel
from app.provenance.visible_label import LabelDrawing
from workers.film.thumbnails import SheetGeometry

_QUALITY = 90


def label_pictures(poster: Path, sprites: Path, sheet: SheetGeometry, label: VisibleLabel) -> None:
    """Draw the label into the poster and into each tile of the sprite sheet, both JPEG files, which are replaced.

    A sign that stays for the whole film is in its pictures already.
    """
    if label is not VisibleLabel.OPENING_TEXT:
        return
    picture = _read(poster)
    height, width, _ = picture.shape
    LabelDrawing(label, height=height, width=width).draw(picture[np.newaxis])
    _write(poster, picture)
    tiles, drawing = _read(sprites), LabelDrawing(label, height=sheet.tile_height, width=sheet.tile_width)
    for number in range(len(sheet.tile_frames)):
        top = number // sheet.columns * sheet.tile_height
        left = number % sheet.columns * sheet.tile_width
        tile = tiles[top : top + sheet.tile_height, left : left + sheet.tile_width]
        drawing.draw(tile[np.newaxis])
    _write(sprites, tiles)


def _read(path: Path) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


def _write(path: Path, picture: np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]) -> None:
    Image.fromarray(picture).save(path, "JPEG", quality=_QUALITY)
