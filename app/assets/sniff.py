"""Detect the format of a file by its first bytes only: names and declared types are untrusted."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["picture", "clip", "sound"]

# Bytes that `sniff` needs.
HEAD_BYTES = 64


@dataclass(frozen=True)
class Media:
    """An accepted format. `reader` is the only Pillow format or libav demuxer that may read the file.

    `kinds` are the kinds that such a file can have; for containers of pictures and sound, the streams decide.
    """

    reader: str
    kinds: tuple[Kind, ...]
    content_type: str


PNG = Media("PNG", ("picture",), "image/png")
JPEG = Media("JPEG", ("picture",), "image/jpeg")
WEBP = Media("WEBP", ("picture",), "image/webp")
MP4 = Media("mov", ("clip", "sound"), "video/mp4")
MATROSKA = Media("matroska", ("clip", "sound"), "video/webm")
WAV = Media("wav", ("sound",), "audio/wav")
FLAC = Media("flac", ("sound",), "audio/flac")
OGG = Media("ogg", ("sound",), "audio/ogg")
MP3 = Media("mp3", ("sound",), "audio/mpeg")

# By the reader of a file: the type by which its manifest is looked for. Other formats have none that can be read.
MANIFEST_TYPES = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "WEBP": "image/webp",
    "mov": "video/mp4",
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "flac": "audio/flac",
}

_STARTS = (
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"\xff\xd8\xff", JPEG),
    (b"\x1a\x45\xdf\xa3", MATROSKA),
    (b"fLaC", FLAC),
    (b"OggS", OGG),
    (b"ID3", MP3),
)


def sniff(head: bytes) -> Media | None:
    """Return the format of a file that starts with `head`, or None when it is not accepted."""
    for start, media in _STARTS:
        if head.startswith(start):
            return media
    if head[:4] == b"RIFF":
        return {b"WEBP": WEBP, b"WAVE": WAV}.get(head[8:12])
    if head[4:8] == b"ftyp":
        return MP4
    # An MPEG audio frame without a tag: eleven set bits, then layer III.
    if len(head) > 2 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2:
        return MP3
    return None
