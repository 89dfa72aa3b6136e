"""A film is measured by decoding its pictures, and damage is reported."""

import hashlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.workers.film.clips import HEIGHT, WIDTH, number_of, write_clip
from workers.engine import Stopped
from workers.film.clip_writer import ClipWriter
from workers.film.encoding import SOUND_RATE, FilmError
from workers.film.film_index import FilmIndex, film_index
from workers.film.film_reading import read_film
from workers.film.join import join
from workers.film.measure import measure
from workers.film.sound_file import write_sound
from workers.film.soundtrack import sample_at
from workers.film.thumbnails import FilmPictures, sheet_geometry


def write_flat(path: Path, colours: list[int]) -> Path:
    with ClipWriter(
        path, in_width=64, in_height=64, width=64, height=64, fps=Fraction(24), frames=len(colours)
    ) as writer:
        writer.write(np.stack([np.full((64, 64, 3), colour, np.uint8) for colour in colours]))
    return path


def test_facts_are_those_of_the_file(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", numbers=range(1, 51))
    facts = measure(clip)
    data = clip.read_bytes()
    assert (facts.bytes, facts.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert (facts.frames, facts.flat_frames, facts.blank) == (50, 0, False)
    assert facts.key_frames[0] == 0


def test_a_film_that_shows_nothing_is_blank(tmp_path: Path) -> None:
    assert measure(write_flat(tmp_path / "black.mp4", [0] * 30)).blank
    assert measure(write_flat(tmp_path / "fade.mp4", list(range(0, 250, 10)))).blank
    assert not measure(write_clip(tmp_path / "clip.mp4", numbers=[3] * 10)).blank


def test_a_flat_part_is_counted(tmp_path: Path) -> None:
    picture = write_clip(tmp_path / "shown.mp4", numbers=[1] * 10, size=(64, 64))
    join([picture, write_flat(tmp_path / "black.mp4", [0] * 20)], tmp_path / "film.mp4")
    film = measure(tmp_path / "film.mp4")
    assert (film.flat_frames, film.frames, film.blank) == (20, 30, False)


def test_copied_pictures_are_compared_and_not_decoded_again(tmp_path: Path) -> None:
    clips = [write_clip(tmp_path / f"{n}.mp4", numbers=range(n, n + 30)) for n in range(2)]
    join(clips, tmp_path / "pictures.mp4")
    original = measure(tmp_path / "pictures.mp4")
    write_sound(tmp_path / "track.flac", np.full((SOUND_RATE, 2), 0.25, np.float32))
    samples = np.full((sample_at(60, Fraction(24)), 2), 0.25, np.float32)
    for sound in (samples, tmp_path / "track.flac"):
        join([tmp_path / "pictures.mp4"], tmp_path / "film.mp4", audio=sound, metadata={"AIGC": "{}"})
        film = measure(tmp_path / "film.mp4", decodes_pictures=False).as_copy_of(original)
        assert film == measure(tmp_path / "film.mp4")
        assert film.has_audio
    with pytest.raises(FilmError, match="other pictures"):
        measure(clips[0], decodes_pictures=False).as_copy_of(original)
    whole = bytearray((tmp_path / "film.mp4").read_bytes())
    with av.open(str(tmp_path / "film.mp4")) as joined:
        place = next(packet.pos + packet.size // 2 for packet in joined.demux(video=0))
    whole[place] ^= 1
    (tmp_path / "film.mp4").write_bytes(whole)
    with pytest.raises(FilmError, match="other pictures"):
        measure(tmp_path / "film.mp4", decodes_pictures=False).as_copy_of(original)


def test_damage_is_not_hidden(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    with ClipWriter(
        tmp_path / "clip.mp4", in_width=WIDTH, in_height=HEIGHT, width=WIDTH, height=HEIGHT, fps=Fraction(24), frames=24
    ) as writer:
        writer.write(rng.integers(0, 255, (24, HEIGHT, WIDTH, 3)).astype(np.uint8))
    join([tmp_path / "clip.mp4"], tmp_path / "film.mp4")
    whole = bytearray((tmp_path / "film.mp4").read_bytes())
    broken = whole.copy()
    middle = len(whole) // 2
    broken[middle : middle + 4000] = rng.integers(0, 255, 4000).astype(np.uint8).tobytes()
    (tmp_path / "broken.mp4").write_bytes(broken)
    (tmp_path / "short.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    (tmp_path / "text.mp4").write_text("no film")
    (tmp_path / "empty.mp4").write_bytes(b"")
    for name in ("broken", "short", "text", "empty", "missing"):
        with pytest.raises(FilmError):
            measure(tmp_path / f"{name}.mp4")


def pictures_of(clip: Path) -> FilmPictures:
    """Return the pictures of a clip, written to poster.jpg and sheet.jpg beside it."""
    pictures = read_film(clip).pictures
    pictures.write(clip.with_name("poster.jpg"), clip.with_name("sheet.jpg"))
    return pictures


def test_the_index_says_what_is_measured(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", numbers=range(80), fps=Fraction(30_000, 1001))
    index, facts = film_index(clip), measure(clip)
    assert (index.frames, index.fps, index.key_frames) == (facts.frames, facts.fps, facts.key_frames)
    assert (index.width, index.height) == (facts.width, facts.height)
    assert len(index.key_frames) >= 3


def test_each_frame_is_read_once_and_in_order(tmp_path: Path) -> None:
    shown: list[tuple[int, int]] = []

    def read(number: int, frame: av.VideoFrame) -> None:
        shown.append((number, number_of(frame.to_ndarray(format="rgb24"))))

    measure(write_clip(tmp_path / "clip.mp4", numbers=range(100, 160)), frame_readers=[read])
    assert shown == list(enumerate(range(100, 160)))


def test_a_reader_ends_the_decoding(tmp_path: Path) -> None:
    shown: list[int] = []

    def watch(number: int, frame: av.VideoFrame) -> None:
        shown.append(number)
        if number == 3:
            raise Stopped("the take has ended")

    with pytest.raises(Stopped):
        read_film(write_clip(tmp_path / "clip.mp4", numbers=range(40)), [watch])
    assert shown == [0, 1, 2, 3]


def test_the_poster_is_the_frame_in_the_middle(tmp_path: Path) -> None:
    for count in (1, 2, 49, 50):
        pictures_of(write_clip(tmp_path / "clip.mp4", numbers=range(count)))
        with Image.open(tmp_path / "poster.jpg") as picture:
            assert (picture.format, picture.size) == ("JPEG", (WIDTH, HEIGHT))
            assert number_of(np.asarray(picture)) == count // 2


def test_pictures_have_the_colours_of_the_frames(tmp_path: Path) -> None:
    colours = np.array([(200, 30, 40), (30, 180, 60), (40, 50, 210), (235, 235, 235)], np.uint8)
    frames = np.broadcast_to(np.repeat(colours, 32, axis=0), (20, HEIGHT, WIDTH, 3)).copy()
    size = {"in_width": WIDTH, "in_height": HEIGHT, "width": WIDTH, "height": HEIGHT}
    with ClipWriter(tmp_path / "clip.mp4", **size, fps=Fraction(24), frames=20) as writer:
        writer.write(frames)
    pictures_of(tmp_path / "clip.mp4")
    for name in ("poster.jpg", "sheet.jpg"):
        with Image.open(tmp_path / name) as picture:
            pixels = np.asarray(picture)[20, :WIDTH] if name == "poster.jpg" else np.asarray(picture)[20, 0:320]
        middles = pixels[(2 * np.arange(4) + 1) * len(pixels) // 8].astype(int)
        assert np.abs(middles - colours).max() <= 4


def test_a_picture_of_a_frame_that_was_not_read_is_an_error(tmp_path: Path) -> None:
    pictures = FilmPictures(FilmIndex(frames=9, fps=Fraction(24), width=64, height=64, key_frames=(0,)))
    with pytest.raises(FilmError, match="not decoded"):
        pictures.write(tmp_path / "poster.jpg", tmp_path / "sheet.jpg")


@pytest.mark.parametrize("count", [1, 3, 25, 60, 1300])
def test_each_tile_of_the_sheet_shows_the_frame_that_is_said(tmp_path: Path, count: int) -> None:
    clip = write_clip(tmp_path / "clip.mp4", numbers=[number % 256 for number in range(count)])
    sheet = pictures_of(clip).sheet
    assert sheet == sheet_geometry(film_index(clip))
    assert len(sheet.tile_frames) == min(25, count)
    with Image.open(tmp_path / "sheet.jpg") as picture:
        assert picture.size == (sheet.columns * sheet.tile_width, sheet.rows * sheet.tile_height)
        pixels = np.asarray(picture)
    for place, number in enumerate(sheet.tile_frames):
        top, left = place // sheet.columns * sheet.tile_height, place % sheet.columns * sheet.tile_width
        tile = pixels[top : top + sheet.tile_height, left : left + sheet.tile_width]
        assert number_of(tile) == number % 256
    assert list(sheet.tile_frames) == sorted(set(sheet.tile_frames))
