"""The visible label on a film's poster and sprite sheet, where the film shows it only at the start of its shots."""

import numpy as np

from app.provenance.label_policy import VisibleLabel
from app.provenance.visible_label import LabelDrawing
from workers.film.thumbnails import FilmPictures


def label_pictures(pictures: FilmPictures, label: VisibleLabel) -> None:
    """Draw the label into the poster and into each tile of the sprite sheet.

    A sign that stays for the whole film is in its pictures already.
    """
    if label is not VisibleLabel.OPENING_TEXT:
        return
    height, width, _ = pictures.poster.shape
    LabelDrawing(label, height=height, width=width).draw(pictures.poster[np.newaxis])
    drawing = LabelDrawing(label, height=pictures.sheet.tile_height, width=pictures.sheet.tile_width)
    for tile in pictures.tiles():
        drawing.draw(tile[np.newaxis])
