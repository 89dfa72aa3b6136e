"""Encoding settings of clips. Every segment of a film gets the same settings, so that a join only copies streams."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

# Least ticks per second of a clip's clock; a frame is always a whole number of ticks.
TICKS_MIN = 12_000

# Conversions between RGB and YUV that lose as little as eight bits allow.
SCALE_FLAGS = "lanczos+accurate_rnd+full_chroma_int+full_chroma_inp"
# Samples per second of every film's sound.
SOUND_RATE = 48_000
# Bits per second of its AAC.
AUDIO_BITS = 192_000
AUDIO = {"c:a": "aac", "b:a": AUDIO_BITS, "ar": SOUND_RATE, "ac": 2}
# A film can be played before it is downloaded, and each of its tags has its own name.
MOVFLAGS = "+faststart+use_metadata_tags"


def rate(fps: Fraction) -> str:
    """Return `fps` as ffmpeg writes it, exactly: 24 → `24/1`, 30000/1001 → `30000/1001`."""
    return f"{fps.numerator}/{fps.denominator}"


def ticks(fps: Fraction) -> tuple[int, int]:
    """Return (ticks per second, ticks per frame), both whole, for a clip of `fps` frames per second."""
    factor = -(-TICKS_MIN // fps.numerator)
    return fps.numerator * factor, fps.denominator * factor


def to_yuv(stream: Any, *, width: int, height: int) -> Any:
    """Scale RGB pictures to `width` × `height` and convert them to tagged BT.709 4:2:0.

    Left alone, ffmpeg converts with BT.601 and writes no tag, and players then guess: colours shift between them.
    """
    return (
        stream.filter("scale", width, height, flags=SCALE_FLAGS, out_color_matrix="bt709", out_range="tv")
        .filter("setparams", colorspace="bt709", color_primaries="bt709", color_trc="bt709", range="tv")
        .filter("setsar", "1")
        .filter("format", "yuv420p")
    )


def h264(fps: Fraction, *, crf: int, preset: str, key_frames: Sequence[int] = ()) -> dict[str, Any]:
    """Return ffmpeg's output options for a clip.

    - No B-frames: presentation order is storage order, so a clip can be cut behind any frame and joined without gaps.
    - Closed groups of one second; `key_frames` (frame numbers) start further ones, where a crossfade will cut.
    - `stitchable` keeps x264 from tuning its headers to the pictures: clips of one size then share one header.
    """
    ticks_per_second, _ = ticks(fps)
    options: dict[str, Any] = {
        "f": "mp4",
        "c:v": "libx264",
        "preset": preset,
        "crf": crf,
        "profile:v": "high",
        "pix_fmt": "yuv420p",
        "bf": 0,
        "g": max(1, round(fps)),
        "x264-params": "stitchable=1:open-gop=0",
        "fps_mode": "passthrough",
        "video_track_timescale": ticks_per_second,
        "map_metadata": -1,
    }
    if key_frames:
        options["force_key_frames"] = "expr:" + "+".join(f"eq(n,{number})" for number in key_frames)
    return options


def tags(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return ffmpeg's output options for tags of an MP4 file, each under its own name in `moov/udta/meta`."""
    # Numbered, because ffmpeg-python takes each option once; ffmpeg itself reads `g` and ignores the number.
    named = {f"metadata:g:{number}": f"{key}={value}" for number, (key, value) in enumerate(metadata.items())}
    return {"movflags": "+use_metadata_tags", **named} if named else {}


class FilmError(Exception):
    """A film could not be made or read. The message ends with ffmpeg's own error where it wrote one."""
