"""The watermark: its code, its pattern, and what it survives."""

import io
from collections.abc import Iterable, Iterator

import av
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from app.provenance.watermark import DETAILED, FLAT, Watermark, heights_for, layout
from app.provenance.watermark_code import CODE_BITS, ID_BITS, decode, encode
from app.provenance.watermark_reader import CHIPS_SHORT, WINDOW_FRAMES, read_marks, reduce

Frames = npt.NDArray[np.uint8]
KEY, MARK = b"the key of this home", 0xC0FFEE123456
HEIGHT, WIDTH = 480, 854


def film(count: int = 10, *, seed: int = 1) -> Frames:
    """Draw a circle that moves over a coloured ground, uint8 [count, HEIGHT, WIDTH, 3]."""
    generator = np.random.default_rng(seed)
    ground, colour = (tuple(int(level) for level in generator.integers(30, 226, 3)) for _ in range(2))
    frames = []
    for number in range(count):
        picture = Image.new("RGB", (WIDTH, HEIGHT), ground)
        ImageDraw.Draw(picture).ellipse((100 + 12 * number, 150, 260 + 12 * number, 310), fill=colour)
        frames.append(np.asarray(picture))
    return np.stack(frames)


def marked(frames: Frames, mark_id: int = MARK, *, key: bytes = KEY) -> Frames:
    _, height, width, _ = frames.shape
    watermark = Watermark(key, mark_id, height=height, width=width, heights=heights_for(frames[0]))
    return watermark.draw(frames)


def encoded(frames: Frames, *, crf: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Encode the frames by x264 and yield what comes back, uint8 [3, H, W]."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=16, options={"crf": str(crf), "preset": "veryfast"})
        stream.height, stream.width = frames.shape[1:3]
        for frame in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(stream.encode())
    file.seek(0)
    with av.open(file) as back:
        for frame in back.decode(video=0):
            yield frame.to_ndarray(format="yuv444p")


def ids(frames: Iterable[npt.NDArray[np.uint8]], key: bytes = KEY) -> list[int | None]:
    return [reading.mark_id for reading in read_marks((reduce(frame) for frame in frames), key)]


def yuv_of(frames: Frames) -> list[npt.NDArray[np.uint8]]:
    return [np.moveaxis(np.asarray(Image.fromarray(frame).convert("YCbCr")), 2, 0) for frame in frames]


@given(st.integers(0, 2**ID_BITS - 1))
@settings(max_examples=25)
def test_a_code_is_read_through_noise_and_the_noise_alone_is_not(mark_id: int) -> None:
    generator = np.random.default_rng(mark_id)
    noise = generator.normal(0, 0.8, CODE_BITS)
    assert decode(1 - 2.0 * encode(mark_id) + noise) == mark_id
    assert decode(generator.normal(0, 1, CODE_BITS)) is None


@pytest.mark.parametrize("mark_id", [-1, 2**ID_BITS])
def test_an_id_of_more_bits_is_refused(mark_id: int) -> None:
    with pytest.raises(ValueError, match="48 bits"):
        encode(mark_id)


def test_every_code_bit_lies_in_every_part_of_the_plane() -> None:
    bits = layout(KEY).bits
    for rows in (slice(0, 72), slice(72, 144), slice(144, 216)):
        counts = np.bincount(bits[rows][bits[rows] >= 0], minlength=CODE_BITS)
        assert counts.min() > 0.9 * counts.mean()


def test_a_marked_frame_differs_by_a_few_levels_and_never_wraps_around() -> None:
    for level in (0, 1, 128, 254, 255):
        frames = np.full((2, 90, 160, 3), level, dtype=np.uint8)
        drawn = Watermark(KEY, MARK, height=90, width=160).draw(frames)
        assert np.abs(drawn.astype(int) - level).max() <= 6
        assert np.array_equal(drawn[0], drawn[1]), "the pattern stands still"
        assert (frames == level).all(), "the frames that came in stay as they were"


def test_the_mark_is_weak_and_weakest_where_nothing_hides_it() -> None:
    frames = film(2)
    noise = np.random.default_rng(1).integers(0, 256, frames.shape, dtype=np.uint8)
    assert heights_for(frames[0])[0] < FLAT[0] + 0.2
    assert heights_for(noise[0]) == DETAILED
    for pictures in (frames, noise):
        error = np.mean((marked(pictures).astype(float) - pictures) ** 2)
        assert 10 * np.log10(255**2 / error) >= 42


@pytest.mark.parametrize("size", [(480, 854), (854, 480), (480, 480), (360, 864)])
def test_the_id_is_read_from_frames_of_every_shape(size: tuple[int, int]) -> None:
    height, width = size
    frames = np.stack([np.asarray(Image.fromarray(frame).resize((width, height))) for frame in film(3)])
    assert ids(yuv_of(marked(frames))) == [MARK]


def test_the_id_survives_an_encoder() -> None:
    assert ids(encoded(marked(film()), crf=28)) == [MARK]


def test_the_id_survives_a_crop_and_a_border_at_another_size() -> None:
    frames = marked(film(4))
    assert ids(yuv_of(frames[:, 20:-19, 40:-29])) == [MARK]
    small = np.stack([np.asarray(Image.fromarray(frame).resize((708, 398))) for frame in frames])
    assert ids(yuv_of(np.pad(small, ((0, 0), (8, 8), (14, 14), (0, 0))))) == [MARK]


def test_the_id_is_read_without_colours() -> None:
    grey = [np.stack([luma, np.full_like(luma, 128), np.full_like(luma, 128)]) for luma, *_ in yuv_of(marked(film(3)))]
    assert ids(grey) == [MARK]


def test_a_film_of_clips_of_two_films_names_both() -> None:
    first, second = film(WINDOW_FRAMES, seed=2), film(WINDOW_FRAMES, seed=3)
    joined = yuv_of(np.concatenate([marked(first), marked(second, MARK + 1)]))
    assert set(ids(joined)) == {MARK, MARK + 1}


def test_no_mark_is_found_where_there_is_none_or_that_of_another_home() -> None:
    assert ids(yuv_of(film())) == []
    assert ids(yuv_of(marked(film())), key=b"another key") == []
    assert ids([]) == []


def test_a_chip_is_a_whole_number_of_pixels_while_it_is_read() -> None:
    assert reduce(np.zeros((3, HEIGHT, WIDTH), dtype=np.uint8)).shape[1] == 4 * CHIPS_SHORT
