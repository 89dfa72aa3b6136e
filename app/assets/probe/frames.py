"""Sample a few frames of pictures and clips for moderation, in a confined process, reduced and as JPEGs.

`python -m app.assets.probe.frames FOLDER` reads `{"count": …, "side": …, "files": [[path, reader], …]}`, writes
`00-00.jpg` and so on into FOLDER (the file's number, the frame's) and prints `{"frames": […]}`: how many of each file,
0 for one that is damaged. Of each of `count` equal parts of a clip one frame is taken, at a moment that nobody can
foresee: what is shown between known moments would never be checked.
"""

import json
import os
import secrets
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
from PIL import Image

from app.assets.limits import LIMITS, RefusedError
from app.assets.probe.media import check_streams, open_media, video_of
from app.confined import confine

_CPU_SECONDS = 60
_OUTPUT_BYTES = 64 * 2**20
# Frames that are decoded at most on the way to one that is taken: our clips have a key frame each second, films one a
# segment.
_DECODED_MAX = 600
_QUALITY = 88
# A part of a second in which no frame is told from the next.
_STEPS = 1000
# What a damaged file raises; SyntaxError is Pillow's for a broken chunk of a PNG.
_DAMAGED = (
    *(RefusedError, MemoryError, av.error.FFmpegError, OSError, ValueError, OverflowError, SyntaxError),
    *(Image.DecompressionBombWarning, Image.DecompressionBombError),
)


def main(folder: str) -> int:
    """Write the frames of the files that the input names into `folder`, and print how many there are of each."""
    os.nice(5)
    order = json.load(sys.stdin)
    confine(cpu_seconds=_CPU_SECONDS, output_bytes=_OUTPUT_BYTES)
    counts = [
        _sample(number, Path(path), Path(folder), reader, order["count"], order["side"])
        for number, (path, reader) in enumerate(order["files"])
    ]
    print(json.dumps({"frames": counts}))  # noqa: T201 - the answer to the parent process
    return 0


def _sample(number: int, path: Path, folder: Path, reader: str, count: int, side: int) -> int:
    """Write the frames of one file, and return how many there are."""
    done = 0
    with suppress(*_DAMAGED):
        is_picture = reader in ("PNG", "JPEG", "WEBP")
        for frame in _picture(path, reader, side) if is_picture else _clip_frames(path, reader, count):
            _write(frame, folder / f"{number:02d}-{done:02d}.jpg", side)
            done += 1
    return done


def _picture(path: Path, reader: str, side: int) -> Iterator[Image.Image]:
    """Yield a picture. It was made upright, sRGB and opaque when it came in, so it is only read."""
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    Image.MAX_IMAGE_PIXELS = LIMITS["picture"].pixels_max
    with Image.open(path, formats=[reader]) as picture:
        # JPEG decodes much faster at a half, a quarter or an eighth of its size.
        picture.draft("RGB", (side, side))
        yield picture


def _clip_frames(path: Path, reader: str, count: int) -> Iterator[Image.Image]:
    """Yield one frame of each part of a clip, each once. Raises RefusedError, and libav's errors."""
    with path.open("rb") as file, open_media(file, reader) as media:
        check_streams(media)
        video = video_of(media)
        if video is None:
            raise RefusedError("it has no pictures")
        seconds = _duration(media, video)
        moments: set[int | None] = set()
        for part in range(count):
            share = Fraction(part * _STEPS + secrets.randbelow(_STEPS), count * _STEPS)
            frame = _frame_at(media, video, share * seconds)
            if frame is not None and frame.pts not in moments:
                moments.add(frame.pts)
                yield frame.to_image()


def _duration(media: Any, video: Any) -> Fraction:
    """Return the length of a clip in seconds; 0 where it does not say."""
    if video.duration is not None:
        return max(Fraction(0), video.duration * Fraction(video.time_base))
    return max(Fraction(0), Fraction(media.duration or 0, av.time_base))


def _frame_at(media: Any, video: Any, moment: Fraction) -> Any:
    """Return the frame that a clip shows at `moment` (seconds from its start), or None where it has none."""
    base, start = Fraction(video.time_base), video.start_time or 0
    media.seek(start + int(moment / base), stream=video, backward=True)
    current = None
    for frame in islice(media.decode(video), _DECODED_MAX):
        if current is not None and (frame.pts is None or (frame.pts - start) * base > moment):
            break
        current = frame
        if time.process_time() > _CPU_SECONDS / 2:
            break
    return current


def _write(frame: Image.Image, path: Path, side: int) -> None:
    """Write a frame as a JPEG whose longer side has at most `side` pixels."""
    picture = frame.convert("RGB")
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    picture.save(path, format="JPEG", quality=_QUALITY)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
