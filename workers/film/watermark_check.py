"""Look whether a film's frames carry a watermark."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import av
import numpy as np

from app.provenance.watermark_reader import WINDOW_FRAMES, Plane, read_marks, reduce
from workers.film.encoding import FilmError

# A take carries its mark in each frame, so a few seconds say it.
_FRAMES_MAX = 4 * WINDOW_FRAMES


def carries_watermark(path: Path, key: bytes) -> bool:
    """Return whether the first seconds of a film carry a watermark of a key. Raises FilmError."""
    try:
        return bool(read_marks(_frames(path), key))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise FilmError(f"{path.name} cannot be read as a film: {error}") from error


def _frames(path: Path) -> Iterator[Plane]:
    with av.open(str(path), format="mov", options={"protocol_whitelist": "file"}) as film:
        for frame in islice(film.decode(video=0), _FRAMES_MAX):
            yield reduce(np.ascontiguousarray(frame.to_ndarray(format="yuv444p")))
