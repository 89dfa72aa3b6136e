"""Picture bombs and disguises."""

import zlib
from pathlib import Path

import pytest
from PIL import Image

from app.assets.limits import RefusedError
from app.assets.sandbox_probe import probe_file
from tests.app.assets.media_files import make_picture, png_header


def refused(path: Path, match: str) -> None:
    folder = path.with_name("out")
    folder.mkdir()
    with pytest.raises(RefusedError, match=match):
        probe_file(path, folder, want="picture")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("width", "height"), [(13_000, 13_000), (8_000, 8_000), (8_193, 100), (40, 100), (2**31 - 1, 2**31 - 1)]
)
def test_pixels_are_counted_in_the_header(tmp_path: Path, width: int, height: int) -> None:
    (tmp_path / "bomb.png").write_bytes(png_header(width, height))
    refused(tmp_path / "bomb.png", r"pixels|damaged")


def test_a_real_bomb_is_refused_before_it_goes_off(tmp_path: Path) -> None:
    Image.new("1", (13_000, 13_000)).save(tmp_path / "bomb.png")
    assert (tmp_path / "bomb.png").stat().st_size < 100_000
    refused(tmp_path / "bomb.png", "more than 40,000,000 pixels")


@pytest.mark.parametrize("ending", ["png", "webp"])
def test_animations_are_refused(tmp_path: Path, ending: str) -> None:
    frames = [Image.new("RGB", (100, 100), (shade, 0, 0)) for shade in range(0, 250, 5)]
    frames[0].save(tmp_path / f"many.{ending}", save_all=True, append_images=frames[1:])
    refused(tmp_path / f"many.{ending}", "animation")


@pytest.mark.parametrize("ending", ["gif", "bmp", "tiff", "ico", "ppm", "tga", "pdf"])
def test_formats_that_are_not_listed_are_refused(tmp_path: Path, ending: str) -> None:
    make_picture(tmp_path / f"picture.{ending}", (64, 64)).rename(tmp_path / "picture.png")
    refused(tmp_path / "picture.png", "none of PNG, JPEG, WebP")


def test_text_chunks_do_not_blow_up(tmp_path: Path) -> None:
    data = make_picture(tmp_path / "plain.png").read_bytes()
    body = b"Comment\x00\x00" + zlib.compress(b"x" * 200_000_000, 9)
    chunk = len(body).to_bytes(4, "big") + b"zTXt" + body + zlib.crc32(b"zTXt" + body).to_bytes(4, "big")
    (tmp_path / "bomb.png").write_bytes(data[:33] + chunk + data[33:])
    refused(tmp_path / "bomb.png", "damaged")


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_half_pictures_are_refused(tmp_path: Path, ending: str) -> None:
    data = make_picture(tmp_path / f"whole.{ending}", (800, 600)).read_bytes()
    (tmp_path / "half").write_bytes(data[: len(data) // 2])
    refused(tmp_path / "half", "damaged")


def test_ghostscript_is_never_called(tmp_path: Path) -> None:
    (tmp_path / "eps.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\nshowpage\n")
    refused(tmp_path / "eps.png", "none of PNG")


def test_code_behind_a_picture_does_not_survive(tmp_path: Path) -> None:
    """A polyglot: a picture in front, a web page behind."""
    data = make_picture(tmp_path / "plain.png").read_bytes()
    (tmp_path / "both.png").write_bytes(data + b"<script>alert(1)</script>")
    (tmp_path / "out").mkdir()
    result = probe_file(tmp_path / "both.png", tmp_path / "out", want="picture")
    assert b"script" not in result.path.read_bytes()


def test_an_empty_file_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    refused(tmp_path / "empty.png", "none of PNG")
