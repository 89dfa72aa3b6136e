"""What is drawn into a take's frames on their way to the encoder: the film's watermark and its visible label."""

import numpy as np
import numpy.typing as npt

from app.provenance.label_policy import VisibleLabel
from app.provenance.visible_label import LabelDrawing, opening_frames
from app.provenance.watermark import Watermark, heights_for, watermark_key
from workers.engine.request import Frames
from workers.segment_input import SegmentInput


class FrameMarks:
    """The marks of one take, whose frames come in their order. `first` is its first frame, uint8 [H, W, 3]."""

    def __init__(self, segment: SegmentInput, first: npt.NDArray[np.uint8]) -> None:
        height, width, _ = first.shape
        self._watermark: Watermark | None = None
        if segment.mark_id is not None:
            key, heights = watermark_key(), heights_for(first)
            self._watermark = Watermark(key, segment.mark_id, height=height, width=width, heights=heights)
        label = segment.spec.visible_label
        self._label = LabelDrawing(label, height=height, width=width) if label is not VisibleLabel.NONE else None
        # How many frames of the take are still to be labelled. A shot may be the first of a film that was cancelled,
        # and plays alone before the film is joined, so each begins with its text.
        self._labelled = segment.unit.frames
        if label is VisibleLabel.OPENING_TEXT:
            self._labelled = max(0, opening_frames(segment.spec.fps) - segment.frames_before)

    def draw(self, frames: Frames) -> Frames:
        """Return the next frames, uint8 [f, H, W, 3], with the marks that fit them; the encoder refuses others."""
        if self._watermark is not None and self._watermark.fits(frames):
            frames = self._watermark.draw(frames)
        if self._label is not None and self._labelled and self._label.fits(frames):
            # The engine may still need its own frames, and the watermark has made new ones.
            frames = frames if self._watermark is not None else frames.copy()
            self._label.draw(frames[: self._labelled])
        self._labelled = max(0, self._labelled - len(frames))
        return frames
