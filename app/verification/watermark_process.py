"""Seek the watermark in means of frames, in a process of its own: it takes seconds of arithmetic.

`python -m app.verification.watermark_process FOLDER` reads the key as hex from its input, and prints
`{"found": …, "mark_ids": […]}`.
"""

import json
import os
import sys
from pathlib import Path

from app.confined import confine
from app.provenance.frame_means import load_means
from app.provenance.watermark_reader import read_means

_CPU_SECONDS = 30
_OUTPUT_BYTES = 2**20
# Means that are searched one by one, about 1.3 seconds each, where the pattern is not in all of them together.
_SEARCHES_MAX = 4
_IDS_MAX = 20


def main(folder: str) -> int:
    """Print what the means in `folder` carry of the watermark of the key that is the input."""
    os.nice(5)
    key = bytes.fromhex(sys.stdin.read())
    confine(cpu_seconds=_CPU_SECONDS, output_bytes=_OUTPUT_BYTES)
    try:
        readings = read_means(load_means(Path(folder)), key, searches_max=_SEARCHES_MAX)
    except ValueError:
        readings = []
    mark_ids = [reading.mark_id for reading in readings if reading.mark_id is not None]
    print(json.dumps({"found": bool(readings), "mark_ids": mark_ids[:_IDS_MAX]}))  # noqa: T201 - the answer
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
