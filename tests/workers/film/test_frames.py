"""Videos and pictures as arrays: the right frames, at the requested rate and size."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.workers.film.clips import HEIGHT, WIDTH, last_frames, number_of, numbered, write_clip
from workers.film.encoding import FilmError
from workers.film.frames import read_frames, read_picture


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", numbers=range(48))


def test_frames_come_at_their_own_pace_and_size(clip: Path) -> None:
    frames = read_frames(clip, width=WIDTH, height=HEIGHT, fps=Fraction(24), frames_max=100)
    assert frames.shape == (48, HEIGHT, WIDTH, 3)
    assert frames.dtype == np.uint8
    assert [number_of(frame) for frame in frames] == list(range(48))
    assert np.abs(frames[5].astype(int) - numbered(5)).mean() < 6


def test_a_long_source_is_read_in_parts(clip: Path) -> None:
    part = read_frames(clip, width=WIDTH, height=HEIGHT, fps=Fraction(24), frames_max=10, start_frame=20)
    assert [number_of(frame) for frame in part] == list(range(20, 30))
    end = read_frames(clip, width=WIDTH, height=HEIGHT, fps=Fraction(24), frames_max=10, start_frame=44)
    assert [number_of(frame) for frame in end] == list(range(44, 48))
    with pytest.raises(FilmError, match="has no frame at or behind frame 48"):
        read_frames(clip, width=WIDTH, height=HEIGHT, fps=Fraction(24), frames_max=10, start_frame=48)


@pytest.mark.parametrize(("fps", "count"), [(12, 24), (16, 32), (48, 96)])
def test_another_pace_keeps_the_speed(clip: Path, fps: int, count: int) -> None:
    frames = read_frames(clip, width=64, height=48, fps=Fraction(fps), frames_max=1000)
    numbers = [number_of(frame) for frame in frames]
    assert abs(len(frames) - count) <= 1
    assert all(abs(number - place * 24 / fps) <= 1.5 for place, number in enumerate(numbers))


def test_another_shape_is_covered_and_cropped_in_the_middle(tmp_path: Path, clip: Path) -> None:
    frames = read_frames(clip, width=100, height=100, fps=Fraction(24), frames_max=3)
    assert frames.shape == (3, 100, 100, 3)
    Image.fromarray(np.repeat(np.arange(200, dtype=np.uint8)[None, :, None], 100, 0).repeat(3, 2)).save(
        tmp_path / "p.png"
    )
    picture = read_picture(tmp_path / "p.png", width=50, height=50)
    assert picture.shape == (50, 50, 3)
    assert abs(int(picture[25, 25, 0]) - 100) <= 2
    assert abs(int(picture[25, 0, 0]) - 50) <= 3


@pytest.mark.parametrize("count", [1, 5, 30, 48, 100])
def test_the_last_frames_are_the_last(clip: Path, count: int) -> None:
    frames = last_frames(clip, count=count)
    assert [number_of(frame) for frame in frames] == list(range(48))[-count:]
    assert frames.shape[1:] == (HEIGHT, WIDTH, 3)


def test_what_is_no_film_and_no_picture_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("ffconcat version 1.0\nfile clip.mp4\n")
    with pytest.raises(FilmError):
        read_frames(tmp_path / "text", width=64, height=64, fps=Fraction(24), frames_max=3)
    with pytest.raises(FilmError):
        last_frames(tmp_path / "text", count=1)
    with pytest.raises(FilmError):
        read_picture(tmp_path / "text", width=64, height=64)
