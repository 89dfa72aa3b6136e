"""Draw the visible label of a film into its frames: light signs on a dark panel, legible on any picture."""

from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from app.provenance.label_glyphs import draw_text
from app.provenance.label_policy import VisibleLabel

# GB 45438-2025 asks for 2 seconds at the start at normal speed, and for characters of 5 % of the frame's short side.
OPENING_SECONDS = 3
INK_SHARE = Fraction(6, 100)
# Frames so small that the share would be illegible, such as the tiles of a sprite sheet.
_INK_MIN = 12
_SIGN_SHARE = Fraction(35, 1000)
_MARGIN_SHARE = Fraction(3, 100)
_TEXTS = {VisibleLabel.CORNER_SIGN: "AI", VisibleLabel.OPENING_TEXT: "AI生成", VisibleLabel.EU_ICON: "AI"}
_WHITE, _PANEL, _PANEL_COVER = 255, 16, 0.72


def opening_frames(fps: int) -> int:
    """Return how many frames of a shot carry the text of its opening."""
    return OPENING_SECONDS * fps


class LabelDrawing:
    """A visible label for frames of one size, height and width in pixels. Raises KeyError for `VisibleLabel.NONE`."""

    def __init__(self, label: VisibleLabel, *, height: int, width: int) -> None:
        self._size = (height, width)
        short = min(height, width)
        share = INK_SHARE if label is VisibleLabel.OPENING_TEXT else _SIGN_SHARE
        # Rounded up, as the standard's size is the least one.
        text = draw_text(_TEXTS[label], max(_INK_MIN, -(-short * share.numerator // share.denominator)))
        panel = _icon(text) if label is VisibleLabel.EU_ICON else _panel(text)  # [h, w, 2]
        margin = round(short * _MARGIN_SHARE)
        panel = panel[: height - 2 * margin, : width - 2 * margin]
        top = margin if label is not VisibleLabel.CORNER_SIGN else height - margin - panel.shape[0]
        left = margin if label is VisibleLabel.OPENING_TEXT else width - margin - panel.shape[1]
        self._place = (slice(None), slice(top, top + panel.shape[0]), slice(left, left + panel.shape[1]))
        light, cover = panel[..., :1], panel[..., 1:]
        # What shows of the frame, and what is added to it, in 1/256: 0 to 65 280 fits into 16 bits.
        self._kept = np.rint(256 * (1 - light) * (1 - cover)).astype(np.uint16)
        self._added = np.rint(256 * (light * _WHITE + (1 - light) * cover * _PANEL)).astype(np.uint16)

    def fits(self, frames: npt.NDArray[Any]) -> bool:
        """Return whether the label can be drawn into these frames: uint8 [f, H, W, 3] of its own size."""
        return frames.dtype == np.uint8 and frames.ndim == 4 and frames.shape[1:] == (*self._size, 3)

    def draw(self, frames: npt.NDArray[np.uint8]) -> None:
        """Draw the label into the frames, uint8 [f, H, W, 3], which are changed."""
        mixed = frames[self._place].astype(np.uint16)
        mixed *= self._kept
        mixed += self._added
        frames[self._place] = mixed >> 8


def _panel(text: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return a text on a panel with round corners, float32 [h, w, 2]: what is light, and what the panel covers."""
    ink, width = text.shape
    padding = round(ink * 0.45)
    size = (width + 2 * padding, ink + 2 * padding)
    shape = Image.new("L", size)
    ImageDraw.Draw(shape).rounded_rectangle((0, 0, size[0] - 1, size[1] - 1), radius=padding, fill=255)
    return _layers(text, shape, padding)


def _icon(text: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return a text in a ring on a disc, float32 [h, w, 2] as `_panel`."""
    ink, width = text.shape
    side = round(2.1 * max(ink, width))
    shape, ring = Image.new("L", (4 * side, 4 * side)), Image.new("L", (4 * side, 4 * side))
    bounds = (0, 0, 4 * side - 1, 4 * side - 1)
    ImageDraw.Draw(shape).ellipse(bounds, fill=255)
    ImageDraw.Draw(ring).ellipse(bounds, outline=255, width=max(4, side // 4))
    layers = _layers(text, shape.resize((side, side), Image.Resampling.BOX), (side - width) // 2, (side - ink) // 2)
    edge = np.asarray(ring.resize((side, side), Image.Resampling.BOX), dtype=np.float32) / 255
    layers[..., 0] = np.maximum(layers[..., 0], edge)
    return layers


def _layers(
    text: npt.NDArray[np.uint8], shape: Image.Image, left: int, top: int | None = None
) -> npt.NDArray[np.float32]:
    light = np.zeros((shape.height, shape.width), dtype=np.float32)
    top = left if top is None else top
    light[top : top + text.shape[0], left : left + text.shape[1]] = text.astype(np.float32) / 255
    return np.stack([light, np.asarray(shape, dtype=np.float32) / 255 * _PANEL_COVER], axis=2)
