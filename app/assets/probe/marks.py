"""Read what shows the origin of a stranger's file, in a confined process: its metadata, and means of its frames.

`python -m app.assets.probe.marks FILE FOLDER READER` prints `{"c2pa": …, "aigc": …, "damaged": …, "pictures": …,
"hashes": …}`, or `{"refused": "why"}`, and writes the means into FOLDER. This process holds no secret: whoever takes it
over by a hostile file does not learn the key of the watermark, which another process seeks in the means.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from app.assets.limits import LIMITS, RefusedError
from app.assets.probe.media import check_streams, open_media, video_of
from app.assets.probe.picture import rewrite_picture
from app.assets.sniff import MANIFEST_TYPES
from app.confined import confine
from app.provenance.frame_hashes import frame_hash
from app.provenance.frame_means import WINDOWS_READ, FrameMeans
from app.provenance.read_marks import read_marks
from app.provenance.watermark_reader import READ_SIDE, WINDOW_FRAMES

_CPU_SECONDS = 45
# From so many seconds of processor time on, no more frames are decoded, and what was read is judged.
_CPU_SECONDS_ENOUGH = 25.0
_OUTPUT_BYTES = 64 * 2**20
_FRAMES_MAX = 3_600
# A frame is hashed so often.
_HASH_SECONDS = Fraction(1, 2)
_HASHES_MAX = 128


def main(file: str, folder: str, reader: str) -> int:
    """Read `file` with `reader`, write the means into `folder`, and print the facts or the reason of a refusal."""
    os.nice(5)
    confine(cpu_seconds=_CPU_SECONDS, output_bytes=_OUTPUT_BYTES)
    try:
        marks = read_marks(Path(file), MANIFEST_TYPES.get(reader, ""))
        pictures = _Pictures()
        # What was read before the damage still says something, and a damaged file may have a manifest.
        is_damaged = True
        with suppress(av.error.FFmpegError, OSError, ValueError, OverflowError):
            if reader in ("PNG", "JPEG", "WEBP"):
                pictures.read_picture(Path(file), Path(folder), reader)
            else:
                pictures.read_clip(Path(file), reader)
            is_damaged = False
        pictures.means.save(Path(folder))
        facts: dict[str, Any] = {"c2pa": str(marks.c2pa), "aigc": str(marks.aigc), "damaged": is_damaged}
        facts |= {"pictures": pictures.count, "hashes": b"".join(pictures.hashes).hex()}
    except RefusedError as refused:
        facts = {"refused": str(refused)}
    except MemoryError:
        facts = {"refused": "reading it takes too much memory"}
    print(json.dumps(facts))  # noqa: T201 - the answer to the parent process
    return 0


class _Pictures:
    """What was read of the pictures of a file."""

    def __init__(self) -> None:
        self.count = 0
        self.hashes: list[bytes] = []
        self.means = FrameMeans()

    def read_picture(self, path: Path, folder: Path, reader: str) -> None:
        """Read a picture, without a hash: none is alike by looks. Raises RefusedError as `rewrite_picture` does."""
        facts = rewrite_picture(path, folder, reader, LIMITS["picture"])
        with Image.open(folder / facts["file"]) as picture:
            planes = np.asarray(picture.convert("YCbCr")).transpose(2, 0, 1)  # [3, H, W]
        self.count = 1
        self.means.add(0, np.ascontiguousarray(planes))

    def read_clip(self, path: Path, reader: str) -> None:
        """Read the frames of a clip; a file without any has none. Raises RefusedError, and libav's errors."""
        with path.open("rb") as file, open_media(file, reader) as media:
            check_streams(media)
            video = video_of(media)
            if video is None:
                return
            fps = Fraction(video.average_rate or video.guessed_rate or 24)
            interval = max(1, round(fps * _HASH_SECONDS))
            windows = set(_windows_read(video.frames))
            for frame in _frames(media, video):
                number, self.count = self.count, self.count + 1
                if number // WINDOW_FRAMES in windows:
                    self.means.add(number // WINDOW_FRAMES, _planes(frame))
                if number % interval == 0 and len(self.hashes) < _HASHES_MAX:
                    self.hashes += [each for each in [frame_hash(frame)] if each is not None]


def _windows_read(frames: int) -> Iterator[int]:
    """Yield the windows of a clip of so many frames (0: unknown) in which the watermark is sought, evenly spread."""
    count = -(-min(frames or _FRAMES_MAX, _FRAMES_MAX) // WINDOW_FRAMES)
    if count <= WINDOWS_READ:
        yield from range(count)
    else:
        yield from (index * count // WINDOWS_READ for index in range(WINDOWS_READ))


def _frames(media: Any, video: Any) -> Iterator[Any]:
    """Yield the frames of a clip, up to _FRAMES_MAX, and no more after _CPU_SECONDS_ENOUGH. Raises libav's errors."""
    for number, frame in enumerate(media.decode(video)):
        if number >= _FRAMES_MAX or time.process_time() > _CPU_SECONDS_ENOUGH:
            return
        yield frame


def _planes(frame: Any) -> Any:
    """Return a frame as it is shown, uint8 [3, H, W] of luma and chroma without subsampling; a large one reduced."""
    factor = min(1.0, 2 * READ_SIDE / min(frame.width, frame.height))
    width, height = max(1, round(frame.width * factor)), max(1, round(frame.height * factor))
    planes = frame.reformat(width, height, "yuv444p", interpolation="AREA").to_ndarray()  # [3, H, W]
    return np.ascontiguousarray(np.rot90(planes, frame.rotation // 90 % 4, axes=(1, 2)))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
