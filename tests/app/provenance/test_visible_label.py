"""The visible label: as large as the standard asks, legible on any picture, and only where it belongs."""

import numpy as np
import pytest

from app.provenance.label_glyphs import draw_text
from app.provenance.label_policy import VisibleLabel
from app.provenance.visible_label import OPENING_SECONDS, LabelDrawing, opening_frames

LABELS = [label for label in VisibleLabel if label is not VisibleLabel.NONE]
SIZES = [(240, 416), (480, 832), (832, 480), (720, 1280), (1440, 1440), (1920, 1080)]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_opening_text_is_as_large_as_the_standard_asks(height: int, width: int) -> None:
    black = np.zeros((1, height, width, 3), dtype=np.uint8)
    LabelDrawing(VisibleLabel.OPENING_TEXT, height=height, width=width).draw(black)
    bright = black[0, ..., 1] > 128
    columns = np.flatnonzero(bright.any(axis=0))
    # The ink of each character, not the size of a font: columns without ink divide them.
    characters = np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1)
    assert len(characters) == len("AI生成")
    for character in characters:
        rows = np.flatnonzero(bright[:, character].any(axis=1))
        assert rows[-1] - rows[0] + 1 >= 0.05 * min(height, width)
    assert OPENING_SECONDS >= 2
    assert opening_frames(24) == 72


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_label_is_legible_on_any_ground_and_leaves_the_rest(label: VisibleLabel, level: int) -> None:
    frames = np.full((2, 480, 832, 3), level, dtype=np.uint8)
    LabelDrawing(label, height=480, width=832).draw(frames)
    assert np.array_equal(frames[0], frames[1])
    changed = np.abs(frames[0].astype(int) - level).max(axis=2) > 0
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    place = frames[0, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert place.shape[0] * place.shape[1] < 0.05 * 480 * 832
    assert place.max() - int(np.median(place)) > 120, "light signs on a dark panel"


def test_each_label_has_its_corner() -> None:
    corners = {}
    for label in LABELS:
        frame = np.full((1, 480, 832, 3), 200, dtype=np.uint8)
        LabelDrawing(label, height=480, width=832).draw(frame)
        rows, columns = np.nonzero((frame[0] != 200).any(axis=2))
        corners[label] = (rows.mean() < 240, columns.mean() < 416)
    assert corners == {
        VisibleLabel.CORNER_SIGN: (False, False),
        VisibleLabel.OPENING_TEXT: (True, True),
        VisibleLabel.EU_ICON: (True, False),
    }


def test_frames_that_it_does_not_fit_are_told() -> None:
    drawing = LabelDrawing(VisibleLabel.EU_ICON, height=48, width=64)
    assert drawing.fits(np.zeros((1, 48, 64, 3), dtype=np.uint8))
    for frames in (np.zeros((1, 48, 64, 3)), np.zeros((1, 64, 48, 3), dtype=np.uint8), np.zeros((48, 64, 3), np.uint8)):
        assert not drawing.fits(frames)


def test_a_tiny_frame_gets_what_fits_of_its_label() -> None:
    tiny = np.full((1, 16, 16, 3), 200, dtype=np.uint8)
    LabelDrawing(VisibleLabel.OPENING_TEXT, height=16, width=16).draw(tiny)
    assert (tiny != 200).any()


def test_characters_are_as_high_as_asked() -> None:
    for height in (12, 29, 86):
        ink = draw_text("AI生成", height)
        assert ink.shape[0] == height
        assert ink[0].max() > 60
        assert ink[-1].max() > 60
