"""Read what shows the origin of a file, in confined processes, and validate their answers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from app.assets.limits import RefusedError
from app.assets.sandbox_probe import detect_media, run_reader
from app.provenance.mark_state import MarkState
from app.provenance.watermark import watermark_key
from app.verification.limits import READ_SECONDS, SEEK_SECONDS

# 128 hashes in hex, and the rest.
_ANSWER_BYTES = 20_000


class _FileAnswer(BaseModel):
    """The answer of the process that has read hostile bytes: untrusted input."""

    model_config = ConfigDict(extra="forbid")

    refused: Annotated[str, StringConstraints(max_length=300)] | None = None
    c2pa: MarkState = MarkState.ABSENT
    aigc: MarkState = MarkState.ABSENT
    damaged: bool = False
    pictures: int = Field(0, ge=0, le=100_000)
    hashes: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64}){0,128}$")] = ""


class _WatermarkAnswer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    found: bool
    mark_ids: list[Annotated[int, Field(ge=0, lt=2**48)]] = Field(max_length=20)


_Answer = TypeVar("_Answer", bound=BaseModel)


@dataclass(frozen=True)
class FileReading:
    """What a file says of its origin. `mark_ids` are those of its watermarks; `frame_hashes` PDQ hashes of frames.

    A watermark is broken where the pattern of this home is there and carries nothing that can be read.
    """

    c2pa: MarkState
    aigc: MarkState
    watermark: MarkState
    mark_ids: tuple[int, ...]
    frame_hashes: bytes


def read_file(path: Path, folder: Path) -> FileReading:
    """Read the file at `path`, with the empty `folder` for what the processes leave.

    Raises RefusedError for a file of no known format, beyond the limits, or without a picture or mark that can be read.
    """
    media = detect_media(path, None)
    answer = _ask(_FileAnswer, ["app.assets.probe.marks", str(path), str(folder), media.reader], folder, READ_SECONDS)
    if answer.refused is not None:
        raise RefusedError(answer.refused)
    has_mark = answer.c2pa is not MarkState.ABSENT or answer.aigc is not MarkState.ABSENT
    if answer.damaged and not answer.pictures and not has_mark:
        raise RefusedError("it is damaged, or not of the format of its first bytes")
    watermark = _WatermarkAnswer(found=False, mark_ids=[])
    if answer.pictures:
        words = ["app.verification.watermark_process", str(folder)]
        watermark = _ask(_WatermarkAnswer, words, folder, SEEK_SECONDS, input_text=watermark_key().hex())
    state = MarkState.FOUND if watermark.mark_ids else MarkState.BROKEN if watermark.found else MarkState.ABSENT
    return FileReading(answer.c2pa, answer.aigc, state, tuple(watermark.mark_ids), bytes.fromhex(answer.hashes))


def _ask(form: type[_Answer], words: list[str], folder: Path, seconds: float, *, input_text: str = "") -> _Answer:
    """Return the answer of a confined process. Raises RefusedError when it crashed or its answer is invalid."""
    answer: Any = run_reader(words, folder, seconds=seconds, answer_bytes=_ANSWER_BYTES, input_text=input_text)
    try:
        return form.model_validate(answer)
    except ValidationError:
        raise RefusedError("it cannot be read") from None
