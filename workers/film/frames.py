"""Read videos and pictures as arrays: sources of video-to-video and extensions, first and last frames."""

import subprocess
import tempfile
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import ffmpeg
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from workers.film.encoding import SCALE_FLAGS, FilmError, rate
from workers.film.ffmpeg import command, kill, stderr_tail

_SECONDS_MAX = 300.0


def read_frames(
    path: Path, *, width: int, height: int, fps: Fraction, frames_max: int, start_frame: int = 0
) -> npt.NDArray[np.uint8]:
    """Return up to `frames_max` frames of the film at `path` as uint8 [F, height, width, 3].

    The film is re-timed to `fps` (frames repeated or left out, its speed kept), scaled to cover width × height with its
    proportions kept, and cropped in the middle. `start_frame` counts in the re-timed film, so that a long source can
    be read segment by segment. Raises FilmError when it cannot be decoded or has no frame there.
    """
    source = ffmpeg.input(str(path), f="mov", protocol_whitelist="file").video
    graph = (
        source.filter("fps", rate(fps))
        .filter("trim", start_frame=start_frame, end_frame=start_frame + frames_max)
        .filter("scale", width, height, flags=SCALE_FLAGS, force_original_aspect_ratio="increase", out_range="pc")
        .filter("crop", width, height)
        .filter("format", "rgb24")
        .output("pipe:", f="rawvideo", fps_mode="passthrough", **{"frames:v": frames_max})
    )
    raw = _read_all(graph, bytes_max=frames_max * width * height * 3)
    frames = np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)  # [F, H, W, 3]
    if len(frames) == 0:
        raise FilmError(f"{path.name} has no frame at or behind frame {start_frame}")
    return frames


def read_picture(path: Path, *, width: int, height: int) -> npt.NDArray[np.uint8]:
    """Return the picture at `path` as uint8 [height, width, 3], scaled to cover and cropped in the middle.

    Raises FilmError when it is no PNG or JPEG.
    """
    try:
        with Image.open(path, formats=["PNG", "JPEG"]) as picture:
            fitted = ImageOps.fit(picture.convert("RGB"), (width, height), Image.Resampling.LANCZOS)
            return np.asarray(fitted, np.uint8)  # [H, W, 3]
    except (OSError, ValueError) as error:
        raise FilmError(f"{path.name} cannot be read as a picture: {error}") from error


def _read_all(graph: Any, *, bytes_max: int) -> bytearray:
    """Run `graph`, whose output is a pipe, and return at most `bytes_max` bytes of its output."""
    raw = bytearray(bytes_max)
    filled = 0
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            command(graph), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, start_new_session=True
        )
        assert process.stdout is not None
        # Killing ffmpeg ends the read below, whatever it waits for.
        watchdog = threading.Timer(_SECONDS_MAX, process.kill)
        watchdog.start()
        try:
            with process.stdout as pipe, memoryview(raw) as view:
                while filled < bytes_max and (size := pipe.readinto(view[filled:])):  # type: ignore[attr-defined]
                    filled += size
            status = process.wait()
        finally:
            watchdog.cancel()
            kill(process)
        if status != 0:
            raise FilmError(f"ffmpeg ended with status {status}{stderr_tail(stderr)}")
    del raw[filled:]
    return raw
