"""Read a customer's file in a confined process, and validate its answer."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from app.assets.limits import LIMITS, OUTPUT_BYTES, READERS, WALL_SECONDS, RefusedError
from app.assets.sniff import HEAD_BYTES, Kind, Media, sniff
from app.confined import ConfinedError, run_confined
from app.errors import AppError
from app.provenance.read_marks import TEXT_MAX

_CONTENT_TYPES: dict[Kind, str] = {"picture": "image/png", "clip": "video/mp4", "sound": "audio/flac"}
_ALLOWED = {
    "picture": ["PNG", "JPEG", "WebP"],
    "clip": ["MP4", "MOV", "WebM", "Matroska"],
    "sound": ["WAV", "MP3", "FLAC", "Ogg", "M4A"],
}
_WAIT_SECONDS = 60.0
# A character of a mark takes up to twelve bytes of it.
_ANSWER_BYTES = 30_000
_readers = threading.BoundedSemaphore(READERS)

_Words = Annotated[str, StringConstraints(max_length=300)]
_Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,30}$")]
_Mark = Annotated[str, StringConstraints(max_length=TEXT_MAX)]
_Fraction = Annotated[str, StringConstraints(pattern=r"^\d{1,9}(/\d{1,9})?$")]


class _Answer(BaseModel):
    """The answer of the confined process. It has read hostile bytes, so its answer is untrusted input."""

    model_config = ConfigDict(extra="forbid")

    refused: _Words | None = None
    file: Annotated[str, StringConstraints(pattern=r"^(picture\.png|clip\.mp4|sound\.flac)$")] | None = None
    kind: Kind | None = None
    width: int | None = Field(None, ge=1, le=8192)
    height: int | None = Field(None, ge=1, le=8192)
    frames: int | None = Field(None, ge=1, le=100_000)
    fps: _Fraction | None = None
    seconds: _Fraction | None = None
    has_audio: bool = False
    marks: dict[_Name, _Mark] | None = Field(None, max_length=20)


class ProbeResult(BaseModel):
    """A re-encoded file and its facts. `fps` and `seconds` are exact fractions as text.

    `marks` are those of the file as it came in.
    """

    path: Path
    kind: Kind
    content_type: str
    width: int | None
    height: int | None
    frames: int | None
    fps: str | None
    seconds: str | None
    has_audio: bool
    marks: dict[str, str] | None = None


def probe_file(path: Path, folder: Path, *, want: Kind | None) -> ProbeResult:
    """Re-encode the customer's file at `path` into the empty `folder`, as the wanted kind or (None) as its own.

    Raises RefusedError, with the reason for its owner, and AppError `unavailable` when too many files wait.
    """
    media = detect_media(path, want)
    kind = want or media.kinds[0]
    size, allowed = path.stat().st_size, LIMITS[kind].bytes_max
    if size > allowed:
        raise RefusedError(f"it has {size:,} bytes; a {kind} may have {allowed:,}")
    with _reader_slot():
        answer = _run_probe(path, folder, media, want)
    if answer.refused is not None:
        raise RefusedError(answer.refused)
    if answer.file is None or answer.kind is None or (want is not None and answer.kind != want):
        raise RefusedError("it cannot be read")
    output = folder / answer.file
    if output.is_symlink() or not output.is_file() or not 0 < output.stat().st_size <= OUTPUT_BYTES:
        raise RefusedError("it cannot be read")
    facts = answer.model_dump(exclude={"refused", "file", "kind"})
    return ProbeResult(path=output, kind=answer.kind, content_type=_CONTENT_TYPES[answer.kind], **facts)


def detect_media(path: Path, want: Kind | None) -> Media:
    """Detect the format by the file's first bytes. Raises RefusedError when it is not accepted or not wanted."""
    with path.open("rb") as file:
        media = sniff(file.read(HEAD_BYTES))
    names = _ALLOWED[want] if want else [name for names in _ALLOWED.values() for name in names]
    if media is None or (want is not None and want not in media.kinds):
        raise RefusedError(f"it is none of {', '.join(names)}")
    return media


@contextmanager
def _reader_slot() -> Iterator[None]:
    # Each probe may use gigabytes; many uploads at once wait instead of exhausting the machine.
    if not _readers.acquire(timeout=_WAIT_SECONDS):
        raise AppError("unavailable", "Too many uploads are being processed; try again in a minute.")
    try:
        yield
    finally:
        _readers.release()


def _run_probe(path: Path, folder: Path, media: Media, want: Kind | None) -> _Answer:
    """Run the confined process and return its answer. Raises RefusedError when it crashed or its answer is invalid."""
    words = ["app.assets.probe", str(path), str(folder), media.reader, want or ""]
    try:
        return _Answer.model_validate(run_reader(words, folder, seconds=WALL_SECONDS, answer_bytes=_ANSWER_BYTES))
    except ValidationError:
        raise RefusedError("it cannot be read") from None


def run_reader(words: Sequence[str], folder: Path, *, seconds: float, answer_bytes: int, input_text: str = "") -> Any:
    """Run a module that reads a customer's file, as `run_confined` does. Raises RefusedError where that fails."""
    try:
        return run_confined(words, folder, seconds=seconds, answer_bytes=answer_bytes, input_text=input_text)
    except ConfinedError as error:
        raise RefusedError(str(error)) from None
