"""The confined process: drop privileges, re-encode one file, print its facts."""

import json
import sys
from pathlib import Path
from typing import Any

import av

from app.assets.limits import CPU_SECONDS, LIMITS, OUTPUT_BYTES, RefusedError
from app.assets.probe.media import rewrite_media
from app.assets.probe.picture import rewrite_picture
from app.assets.sniff import MANIFEST_TYPES
from app.confined import confine
from app.provenance.read_marks import read_marks


def main(file: str, folder: str, reader: str, kind: str) -> int:
    """Read `file` with `reader`, write the new file into `folder`, and print its facts or the reason of a refusal.

    `kind` is the wanted kind, or empty for any.
    """
    confine(cpu_seconds=CPU_SECONDS, output_bytes=OUTPUT_BYTES)
    wanted: Any = kind or None
    try:
        # Read before the file is re-encoded, which drops them.
        marks = read_marks(Path(file), MANIFEST_TYPES.get(reader, "")).as_dict()
        if reader in ("PNG", "JPEG", "WEBP"):
            facts = rewrite_picture(Path(file), Path(folder), reader, LIMITS["picture"])
        else:
            facts = rewrite_media(Path(file), Path(folder), reader, wanted)
        facts["marks"] = marks
    except RefusedError as refused:
        facts = {"refused": str(refused)}
    except MemoryError:
        facts = {"refused": "reading it takes too much memory"}
    except (av.error.FFmpegError, OSError, ValueError, OverflowError):
        facts = {"refused": "it is damaged, or not of the format of its first bytes"}
    print(json.dumps(facts))  # noqa: T201 - the answer to the parent process
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
