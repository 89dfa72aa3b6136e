"""What is drawn into a take's frames: the label where it belongs, and a watermark that is read beside it."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from app.provenance.label_policy import VisibleLabel
from app.provenance.watermark import watermark_key
from app.provenance.watermark_reader import read_marks, reduce
from app.settings import get_settings
from tests.bench.marks import yuv
from workers.frame_marks import FrameMarks

FPS = 4


@dataclass
class Segment:
    """What the marks need of a segment's order."""

    label: VisibleLabel
    frames: int
    frames_before: int = 0
    mark_id: int | None = None

    @property
    def spec(self) -> Any:
        return SimpleNamespace(visible_label=self.label, fps=FPS)

    @property
    def unit(self) -> Any:
        return SimpleNamespace(frames=self.frames)


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CINEMETER_SECRET", "a secret of this test")
    get_settings.cache_clear()
    yield
    monkeypatch.undo()
    get_settings.cache_clear()


def labelled(segment: Segment, *, chunk: int = 5) -> list[bool]:
    """Draw the marks of a segment chunk by chunk, and return which of its frames changed."""
    frames = np.full((segment.frames, 96, 128, 3), 90, dtype=np.uint8)
    marks: Any = FrameMarks(segment, frames[0])  # type: ignore[arg-type]
    drawn = [marks.draw(frames[start : start + chunk]) for start in range(0, segment.frames, chunk)]
    assert (frames == 90).all(), "the engine may still need its frames"
    return [bool((frame != 90).any()) for frame in np.concatenate(drawn)]


def test_a_sign_stays_and_the_text_is_shown_for_three_seconds_of_each_shot() -> None:
    assert labelled(Segment(VisibleLabel.NONE, 20)) == [False] * 20
    for label in (VisibleLabel.CORNER_SIGN, VisibleLabel.EU_ICON):
        assert labelled(Segment(label, 20, frames_before=40)) == [True] * 20
    text = VisibleLabel.OPENING_TEXT
    assert labelled(Segment(text, 20)) == [True] * 12 + [False] * 8
    assert labelled(Segment(text, 8)) == [True] * 8, "a shot shorter than that shows it throughout"
    assert labelled(Segment(text, 8, frames_before=8)) == [True] * 4 + [False] * 4
    assert labelled(Segment(text, 8, frames_before=16)) == [False] * 8
    assert labelled(Segment(text, 1)) == [True]


@pytest.mark.parametrize("label", [VisibleLabel.OPENING_TEXT, VisibleLabel.EU_ICON])
def test_the_watermark_is_read_beside_a_label(label: VisibleLabel) -> None:
    rng = np.random.default_rng(3)
    picture = rng.integers(60, 200, (48, 83, 3), dtype=np.uint8).repeat(10, 0).repeat(10, 1)[:480, :830]
    frames = np.stack([picture] * 4)
    marks: Any = FrameMarks(Segment(label, 4, mark_id=2**40 + 7), frames[0])  # type: ignore[arg-type]
    drawn = marks.draw(frames)
    [reading] = read_marks([reduce(yuv(frame)) for frame in drawn], watermark_key())
    assert reading.mark_id == 2**40 + 7
