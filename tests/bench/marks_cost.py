"""Measure what the marks of a take cost beside its time on a GPU.

`python -m tests.bench.marks_cost [--rounds N]` draws the watermark and the visible label into the 81 frames of a take,
as a worker does between the decoder and the encoder, where the GPU waits for it. The times of whole takes on one H200
are those of `make bench-gpu` with 8 steps, the fastest that decision 0021 lists: with more steps the share is smaller.
The processor here draws; that of a GPU host is faster.
"""

import argparse
from statistics import median
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import numpy as np

from app.provenance.label_policy import VisibleLabel
from app.settings import set_environment
from tests.bench.pairs import print_share
from workers.frame_marks import FrameMarks

FRAMES, CHUNK = 81, 8
FPS = 16
SHARE_MAX = 0.03
# Seconds end to end of 81 frames with 8 steps on one H200, and their size (deploy/decisions/0021-on-a-gpu.md).
TAKES = {
    "Wan 2.2 5B, 832x480": (4.98, 832, 480),
    "Wan 2.2 5B, 1280x704": (12.95, 1280, 704),
    "Wan 2.1 1.3B, 832x480": (9.58, 832, 480),
    "Wan 2.1 1.3B, 1280x720": (36.59, 1280, 720),
}


def draw_marks(width: int, height: int) -> float:
    """Draw the marks of a take of this size in pixels; return the seconds."""
    random = np.random.default_rng(5)
    # Detail everywhere: the heights of the watermark follow it.
    frames = random.integers(0, 256, (CHUNK, height, width, 3), dtype=np.uint8)
    spec = SimpleNamespace(visible_label=VisibleLabel.CORNER_SIGN, fps=FPS)
    segment: Any = SimpleNamespace(mark_id=7, spec=spec, unit=SimpleNamespace(frames=FRAMES), frames_before=0)
    began = perf_counter()
    marks = FrameMarks(segment, frames[0])
    for start in range(0, FRAMES, CHUNK):
        marks.draw(frames[: min(CHUNK, FRAMES - start)])
    return perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    set_environment(secret="a secret of this bench")
    for name, (seconds, width, height) in TAKES.items():
        drawn = median(draw_marks(width, height) for _ in range(rounds))
        print_share(f"marks of {name}", drawn, seconds, bar=SHARE_MAX)


if __name__ == "__main__":
    main()
