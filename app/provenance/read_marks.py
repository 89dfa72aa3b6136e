"""Read the marks of one file: its manifest, its `AIGC` label, and the kind of source that its metadata names.

The file may be hostile: strangers' files are read in a confined process only.
"""

import mmap
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.provenance.aigc import TAG, AigcLabel, read_label
from app.provenance.mark_state import MarkState
from app.provenance.mp4_tags import read_tags

# Every manifest is in boxes of JUMBF whose outermost one has this label.
_MANIFEST_LABEL = b"c2pa"
# The name of a label as the metadata of an MP4 file lists it: without it, damaged boxes say nothing about a label.
_AIGC_NAME = b"mdta" + TAG.encode()
_SOURCE_TYPE = re.compile(rb"newscodes/digitalsourcetype/([A-Za-z]{1,60})")
_MP4_TYPES = ("video/mp4", "video/quicktime", "audio/mp4")
# Characters that are kept of a text that somebody else wrote.
TEXT_MAX = 100


@dataclass(frozen=True)
class FileMarks:
    """The marks of a file. All texts are those of its maker, printable, cut to `TEXT_MAX` characters."""

    c2pa: MarkState
    aigc: MarkState
    facts: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """Return the marks as JSON-ready values."""
        return {"c2pa": str(self.c2pa), "aigc": str(self.aigc), **self.facts}


def read_marks(path: Path, media_type: str) -> FileMarks:
    """Return the marks of the file at `path`, of this media type. Raises OSError."""
    label = _aigc(path, media_type)
    state, facts = MarkState.ABSENT, {"aigc_producer": label.producer, "aigc_id": label.content_id}
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        has_manifest = data.find(_MANIFEST_LABEL) >= 0
        source = _SOURCE_TYPE.search(data)
        source_type = source[1].decode("ascii") if source else ""
    if has_manifest and media_type:
        # The library is large, and few files of customers have a manifest.
        from app.provenance.manifest import read_manifest

        manifest = read_manifest(path, media_type)
        state = manifest.state
        facts |= {
            "c2pa_label": manifest.label,
            "c2pa_title": manifest.title,
            "c2pa_generator": manifest.generator,
            "c2pa_issuer": manifest.issuer,
            "c2pa_problems": " ".join(manifest.problems),
        }
        source_type = manifest.source_type.rpartition("/")[2] or source_type
    facts["source_type"] = source_type
    texts = {name: _printable(text)[:TEXT_MAX] for name, text in facts.items()}
    return FileMarks(state, label.state, {name: text for name, text in texts.items() if text})


def _printable(text: str) -> str:
    """Return a text without control characters and lone surrogates, which no database stores."""
    return "".join(character for character in text if character.isprintable())


def _aigc(path: Path, media_type: str) -> AigcLabel:
    if media_type not in _MP4_TYPES:
        return AigcLabel(MarkState.ABSENT)
    try:
        return read_label(read_tags(path))
    except ValueError:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            has_label = data.find(_AIGC_NAME) >= 0
        return AigcLabel(MarkState.BROKEN if has_label else MarkState.ABSENT)
