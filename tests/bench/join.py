"""Joining 12 clips of 5 s at 1080P beside the ffmpeg command line doing the same: `python -m tests.bench.join`.

Both copy the streams and move the index to the front. Ours also reads each clip's index first, refuses what does not
fit together, and writes the film's clock anew, frame by frame. Pairs of runs alternate; medians and their ratio are
printed (aim: at most 1.2).
"""

import statistics
import subprocess
import tempfile
from fractions import Fraction
from pathlib import Path
from time import perf_counter

import numpy as np

from workers.engine.meter import cpu_seconds
from workers.film.clip_writer import ClipWriter
from workers.film.ffmpeg import ffmpeg_binary
from workers.film.join import join

CLIPS, SECONDS, FPS, SIZE = 12, 5, 24, (1920, 1080)
PAIRS = 9


def write_clip(path: Path, seed: int) -> Path:
    """Write a clip of drifting blotches with grain, which compresses like a film and not like a test card."""
    rng = np.random.default_rng(seed)
    width, height = SIZE
    ground = np.kron(
        rng.integers(40, 216, (height // 40 + 2, width // 40 + 2, 3), np.uint8), np.ones((40, 40, 1), "u1")
    )
    grain = rng.integers(0, 16, (height, width, 1), np.uint8)
    frames = SECONDS * FPS
    with ClipWriter(
        path, in_width=width, in_height=height, width=width, height=height, fps=Fraction(FPS), frames=frames
    ) as writer:
        for number in range(frames):
            shift = number % 40
            picture = ground[shift : shift + height, shift : shift + width] + np.roll(grain, 7 * number, axis=1)
            writer.write(picture[None])
    return path


def by_hand(clips: list[Path], out: Path) -> None:
    """What a person would type."""
    script = out.with_suffix(".txt")
    script.write_text("".join(f"file '{clip}'\n" for clip in clips), encoding="utf-8")
    options = ["-f", "concat", "-safe", "0", "-i", str(script), "-c", "copy", "-movflags", "+faststart", str(out)]
    subprocess.run([ffmpeg_binary(), "-v", "error", "-y", *options], check=True)


def timed(act: object, *args: object) -> tuple[float, float]:
    """Seconds by the clock and of the processor, children included."""
    begun, cpu = perf_counter(), cpu_seconds()
    act(*args)  # type: ignore[operator]
    return perf_counter() - begun, cpu_seconds() - cpu


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        one = write_clip(folder / "0.mp4", 0)
        clips = [one]
        for number in range(1, CLIPS):
            clips.append(folder / f"{number}.mp4")
            clips[-1].write_bytes(one.read_bytes())
        size = sum(clip.stat().st_size for clip in clips)
        pairs = [
            (timed(join, clips, folder / "ours.mp4"), timed(by_hand, clips, folder / "theirs.mp4"))
            for _ in range(PAIRS + 1)
        ][1:]
    print(f"join {CLIPS} x {SECONDS} s at 1080P, {size / 1e6:.0f} MB together; medians of {PAIRS} pairs (aim: 1.2)")
    for index, unit in enumerate(("s", "processor seconds")):
        ours = statistics.median(pair[0][index] for pair in pairs)
        theirs = statistics.median(pair[1][index] for pair in pairs)
        ratio = statistics.median(pair[0][index] / pair[1][index] for pair in pairs)
        print(f"{ours:.2f} {unit}, by hand {theirs:.2f}, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
