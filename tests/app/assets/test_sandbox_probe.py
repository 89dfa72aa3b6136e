"""Which files customers may upload, and what is stored of them."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from app.assets.limits import RefusedError
from app.assets.sandbox_probe import ProbeResult, probe_file
from app.assets.sniff import Kind, sniff
from tests.app.assets.media_files import make, make_clip, make_picture, pictures, tone


def examined(path: Path, want: Kind | None = None) -> ProbeResult:
    folder = path.with_name(path.name + "-out")
    folder.mkdir()
    return probe_file(path, folder, want=want)


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert picture.mode == "RGB"
        return np.asarray(picture)


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_pictures_become_png(tmp_path: Path, ending: str) -> None:
    result = examined(make_picture(tmp_path / f"picture.{ending}"))
    assert (result.kind, result.content_type, result.width, result.height, result.frames) == (
        "picture",
        "image/png",
        320,
        200,
        1,
    )
    pixels = pixels_of(result.path).astype(int)
    assert np.abs(pixels[150, 80] - [200, 0, 0]).max() < 12
    assert np.abs(pixels[150, 240] - [0, 0, 200]).max() < 12


def test_a_name_means_nothing(tmp_path: Path) -> None:
    make_picture(tmp_path / "picture.png")
    result = examined((tmp_path / "picture.png").rename(tmp_path / "clip.mp4"))
    assert result.kind == "picture"


def test_pictures_are_turned_upright_and_lose_their_metadata(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # taken with the camera on its side
    exif[0x010E] = "SECRET PLACE"
    make_picture(tmp_path / "picture.jpg", exif=exif, comment="SECRET PLACE", quality=95)
    result = examined(tmp_path / "picture.jpg")
    assert (result.width, result.height) == (200, 320)
    assert pixels_of(result.path)[60, 20, 0] > 150
    assert b"SECRET" not in result.path.read_bytes()
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "SECRET PLACE")
    make_picture(tmp_path / "text.png", pnginfo=text)
    content = examined(tmp_path / "text.png").path.read_bytes()
    assert b"SECRET" not in content
    assert b"tEXt" not in content


def test_odd_pixel_formats_are_read_right(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 320 * 200).reshape(200, 320).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "grey16.png")
    grey = pixels_of(examined(tmp_path / "grey16.png").path).astype(int)
    assert np.abs(grey[..., 0] - ramp / 257).max() <= 1
    glass = np.zeros((200, 320, 4), np.uint8)
    glass[:, :160] = (255, 255, 255, 255)
    Image.fromarray(glass).save(tmp_path / "alpha.png")
    laid = pixels_of(examined(tmp_path / "alpha.png").path)
    assert laid[100, 80].tolist() == [255, 255, 255]
    assert laid[100, 240].tolist() == [0, 0, 0]
    with Image.open(make_picture(tmp_path / "rgb.png")) as picture:
        picture.convert("P").save(tmp_path / "palette.png")
        picture.convert("CMYK").save(tmp_path / "cmyk.jpg")
    for name in ("palette.png", "cmyk.jpg"):
        assert pixels_of(examined(tmp_path / name).path)[150, 80, 0] > 150


def test_large_pictures_are_made_smaller(tmp_path: Path) -> None:
    result = examined(make_picture(tmp_path / "picture.jpg", (6144, 3000)))
    assert (result.width, result.height) == (3072, 1500)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("h264.mp4", ["-c:v", "libx264", "-c:a", "aac"]),
        ("hevc10.mov", ["-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-x265-params", "log-level=none", "-c:a", "aac"]),
        ("vp9.webm", ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-c:a", "libopus"]),
        ("h264.mkv", ["-c:v", "libx264", "-c:a", "libvorbis"]),
    ],
)
def test_clips_become_plain_h264_with_sound(tmp_path: Path, name: str, words: list[str]) -> None:
    make(tmp_path / name, *pictures(1), *tone(1), "-pix_fmt", "yuv420p", *words)
    result = examined(tmp_path / name)
    assert (result.kind, result.content_type, result.width, result.height) == ("clip", "video/mp4", 320, 180)
    assert (result.frames, result.fps, result.seconds, result.has_audio) == (24, "24", "1", True)
    with av.open(str(result.path)) as film:
        video, audio = film.streams.video[0].codec_context, film.streams.audio[0]
        assert (video.name, video.pix_fmt, video.color_primaries) == ("h264", "yuv420p", 1)
        assert sum(1 for _ in film.decode(video=0)) == 24
        assert abs(float(audio.duration * audio.time_base) - 1) < 0.1
        assert audio.codec_context.name == "aac"


@pytest.mark.parametrize(("angle", "corner"), [(0, (0, 0)), (90, (1, 0)), (180, (1, 1)), (270, (0, 1))])
def test_clips_are_turned_upright(tmp_path: Path, angle: int, corner: tuple[int, int]) -> None:
    """A white field in the upper left corner goes where a player that heeds the rotation shows it."""
    source = "color=black:s=160x96:d=0.2:r=10,drawbox=0:0:40:30:white:fill"
    make(tmp_path / "plain.mp4", "-f", "lavfi", "-i", source, "-pix_fmt", "yuv420p", "-crf", "5")
    make(tmp_path / "turned.mp4", "-display_rotation", str(angle), "-i", str(tmp_path / "plain.mp4"), "-c", "copy")
    make(tmp_path / "shown.png", "-i", str(tmp_path / "turned.mp4"), "-frames:v", "1")
    result = examined(tmp_path / "turned.mp4")
    make(tmp_path / "kept.png", "-i", str(result.path), "-frames:v", "1")
    with Image.open(tmp_path / "shown.png") as displayed, Image.open(tmp_path / "kept.png") as stored:
        assert displayed.size == stored.size == (result.width, result.height)
        difference = np.asarray(displayed.convert("L"), int) - np.asarray(stored.convert("L"), int)
        assert np.abs(difference).mean() < 3


def test_clips_keep_time_when_their_pictures_come_unevenly(tmp_path: Path) -> None:
    uneven = ["-vf", "select='lt(n,10)+gt(n,40)'", "-fps_mode", "vfr"]
    result = examined(make_clip(tmp_path / "clip.mp4", *uneven, seconds=3))
    assert result.seconds is not None
    assert result.fps is not None
    assert abs(Fraction(result.seconds) - 3) < Fraction(1, 5)
    with av.open(str(result.path)) as film:
        steps = {packet.duration for packet in film.demux(video=0) if packet.size}
        assert len(steps) == 1


def test_square_pixels_even_sides_and_a_bounded_size(tmp_path: Path) -> None:
    wide = examined(make_clip(tmp_path / "wide.mp4", "-vf", "setsar=2"))
    assert (wide.width, wide.height) == (640, 180)
    odd = examined(make(tmp_path / "odd.webm", *pictures(0.3, "320x180"), "-vf", "crop=201:151:exact=1,format=yuv444p"))
    assert odd.width in (200, 202)
    assert odd.height in (150, 152)
    large = examined(make_clip(tmp_path / "large.mp4", "-preset", "ultrafast", seconds=0.2, size="2560x1440"))
    assert (large.width, large.height) == (1920, 1080)


@pytest.mark.parametrize(("rate", "stored"), [("30000/1001", "30000/1001"), ("120", "60"), ("7.3", "7")])
def test_rates_are_usual_ones(tmp_path: Path, rate: str, stored: str) -> None:
    assert examined(make_clip(tmp_path / "clip.mp4", rate=rate)).fps == stored


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a.wav", []),
        ("a.mp3", []),
        ("a.flac", []),
        ("a.ogg", ["-c:a", "libvorbis"]),
        ("a.opus", ["-c:a", "libopus", "-f", "ogg"]),
        ("a.m4a", ["-c:a", "aac"]),
        ("a24.wav", ["-c:a", "pcm_s24le", "-ar", "44100", "-ac", "1"]),
    ],
)
def test_sounds_become_flac(tmp_path: Path, name: str, words: list[str]) -> None:
    result = examined(make(tmp_path / name, *tone(2), *words), want="sound")
    assert (result.kind, result.content_type) == ("sound", "audio/flac")
    assert result.seconds is not None
    assert abs(Fraction(result.seconds) - 2) < Fraction(1, 10)
    with av.open(str(result.path)) as sound:
        context = sound.streams.audio[0].codec_context
        assert (context.name, context.sample_rate, context.channels) == ("flac", 48_000, 2)


def test_a_clip_can_be_asked_for_its_sound_and_a_sound_is_no_clip(tmp_path: Path) -> None:
    make(tmp_path / "clip.mp4", *pictures(1), *tone(1), "-pix_fmt", "yuv420p")
    assert examined(tmp_path / "clip.mp4", want="sound").kind == "sound"
    make(tmp_path / "sound.m4a", *tone(1))
    with pytest.raises(RefusedError, match="a clip is needed"):
        examined(tmp_path / "sound.m4a", want="clip")
    with pytest.raises(RefusedError, match="none of PNG, JPEG, WebP"):
        examined(make(tmp_path / "other.m4a", *tone(1)), want="picture")


def test_a_cover_picture_does_not_make_a_song_a_clip(tmp_path: Path) -> None:
    cover = make_picture(tmp_path / "cover.png")
    words = ["-i", str(cover), "-map", "0", "-map", "1", "-c:v", "copy", "-disposition:v", "attached_pic"]
    assert examined(make(tmp_path / "song.m4a", *tone(1), *words)).kind == "sound"


@pytest.mark.parametrize(
    "head", [b"", b"GIF89a", b"II*\x00", b"BM", b"%!PS", b"<svg", b"\x00\x00\x01\x00", b"RIFFxxxxAVI "]
)
def test_other_formats_are_not_recognised(head: bytes) -> None:
    assert sniff(head.ljust(64, b" ")) is None
