"""The confined process: drop privileges, re-encode one file, print its facts."""

import ctypes
import json
import resource
import sys
from pathlib import Path
from typing import Any

import av

from app.assets.limits import CPU_SECONDS, LIMITS, MEMORY_BYTES, OUTPUT_BYTES, RefusedError
from app.assets.probe.media import rewrite_media
from app.assets.probe.picture import rewrite_picture
from app.provenance.read_marks import read_marks

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
# By the reader of a file: the type by which its manifest is looked for. Other formats have none that can be read.
_MEDIA_TYPES = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "WEBP": "image/webp",
    "mov": "video/mp4",
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "flac": "audio/flac",
}
_PR_SET_NO_NEW_PRIVS = 38


def main(file: str, folder: str, reader: str, kind: str) -> int:
    """Read `file` with `reader`, write the new file into `folder`, and print its facts or the reason of a refusal.

    `kind` is the wanted kind, or empty for any.
    """
    confine()
    wanted: Any = kind or None
    try:
        # Read before the file is re-encoded, which drops them.
        marks = read_marks(Path(file), _MEDIA_TYPES.get(reader, "")).as_dict()
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


def confine() -> None:
    """Limit this process: memory, time, core dumps, new privileges, and the network."""
    for limit, amount in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_FSIZE, OUTPUT_BYTES),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (amount, amount))
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # An empty network namespace. Some kernels and containers refuse; then only the rules above apply.
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        libc.unshare(_CLONE_NEWNET)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
