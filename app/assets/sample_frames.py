"""Sample frames of pictures and clips, in a confined process, for moderation."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.assets.limits import RefusedError
from app.assets.sandbox_probe import detect_media, run_reader

FRAMES_MAX = 32
_ANSWER_BYTES = 10_000
_FRAME_BYTES = 4 * 2**20
_JPEG = b"\xff\xd8\xff"


class _Answer(BaseModel):
    """The answer of the process that has read hostile bytes: untrusted input."""

    model_config = ConfigDict(extra="forbid")

    frames: list[Annotated[int, Field(ge=0, le=FRAMES_MAX)]]


def sample_frames(
    paths: Sequence[Path], folder: Path, *, count: int, side_max: int, seconds: float
) -> list[list[Path]]:
    """Write frames of files into the empty `folder` as JPEGs; return their paths for each file, none for a damaged one.

    Of a picture it is the picture, of a clip up to `count` frames; `side_max` is the most pixels of a side. Raises
    RefusedError for a file of no known format, and where the frames are not there within `seconds`.
    """
    files = [(str(path), detect_media(path, None).reader) for path in paths]
    order = json.dumps({"count": count, "side": side_max, "files": files})
    words = ["app.assets.probe.frames", str(folder)]
    try:
        answer = _Answer.model_validate(
            run_reader(words, folder, seconds=seconds, answer_bytes=_ANSWER_BYTES, input_text=order)
        )
    except ValidationError:
        raise RefusedError("it cannot be read") from None
    frames = [
        [folder / f"{number:02d}-{frame:02d}.jpg" for frame in range(frame_count)]
        for number, frame_count in enumerate(answer.frames)
    ]
    if len(frames) != len(files) or not all(_is_jpeg(frame) for each in frames for frame in each):
        raise RefusedError("it cannot be read")
    return frames


def _is_jpeg(path: Path) -> bool:
    if path.is_symlink() or not path.is_file() or path.stat().st_size > _FRAME_BYTES:
        return False
    with path.open("rb") as file:
        return file.read(len(_JPEG)) == _JPEG
