"""Read the watermark from frames, also where they were scaled, cropped, framed or encoded again."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image

from app.provenance.watermark import CHIPS_SHORT, PLANE, layout
from app.provenance.watermark_code import CODE_BITS, decode

Plane = npt.NDArray[np.float32]

# Pixels per chip while chips are read, and so the short side to which frames are reduced first.
_READ_CHIP = 4
READ_SIDE = _READ_CHIP * CHIPS_SHORT
# Pixels per chip while the pattern is searched for, and the side of the transform, which leaves room for a border of 40
# chips before the pattern begins.
_SEARCH_CHIP = 2
_SEARCH_SIDE = 512
# Places from which a standard deviation is estimated.
_PLACES_MIN = 4096
# How large the pattern may be, as a part of what the frame's short side says: 1 for a frame of any size as it was, more
# for a crop, less for one in a border. Between two sizes, the far end of a frame is off by a quarter of a chip.
SCALES = (1.0, *(float(scale) for scale in np.geomspace(0.80, 1.30, 111)))
# How far the best agreement stands above all places and sizes that were tried, in standard deviations, to be looked at.
# See deploy/decisions/0161-the-watermark.md.
LOOK_THRESHOLD = 7.0
# Frames whose mean is read at once, about a second, and the most such windows of one film.
WINDOW_FRAMES = 24
WINDOWS_MAX = 40


@dataclass(frozen=True)
class Place:
    """Where a pattern lies: its size as in SCALES, and where the frame's corner lies in its plane, in chips."""

    scale: float
    top: float
    left: float


@dataclass(frozen=True)
class Reading:
    """A pattern that was found: its agreement in standard deviations, its place, and its id.

    `mark_id` is None where the pattern is that of the key and the id could not be read.
    """

    agreement: float
    place: Place
    mark_id: int | None


def reduce(frame: npt.NDArray[np.uint8]) -> Plane:
    """Return a frame at the size at which marks are read, float32 [2, h, w] with a short side of READ_SIDE pixels.

    `frame`: YUV without subsampling, uint8 [3, H, W], of which luma and Cb are kept.
    """
    _, height, width = frame.shape
    factor = READ_SIDE / min(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    planes = [Image.fromarray(plane).resize(size, Image.Resampling.BICUBIC) for plane in frame[:2]]
    return np.stack([np.asarray(plane, dtype=np.float32) for plane in planes])


def read_marks(frames: Iterable[Plane], key: bytes) -> list[Reading]:
    """Return the marks of a key in a film, each id once, the clearest first.

    `frames` float32 [2, h, w]: reduced frames of one size in their order. A film joined from clips of several films has
    several ids. What cannot be read in a second of film is sought in all of it together.
    """
    return read_means(list(_means(frames)), key)


def read_means(means: Sequence[Plane], key: bytes, *, searches_max: int = WINDOWS_MAX) -> list[Reading]:
    """Return the marks of a key as `read_marks` does, from means of seconds of a film, each float32 [2, h, w].

    Where the pattern is in none but a part of the film, it is searched for in at most so many means, evenly spread.
    """
    quiet = [whiten(luma) - whiten(blue) for luma, blue in means]
    if not quiet:
        return []
    whole = find(np.asarray(sum(quiet), dtype=np.float32), key)
    if whole is not None:
        readings = [whole, *(_read(image, key, whole.agreement, whole.place) for image in quiet)]
    elif len(quiet) > 1:
        searched = min(searches_max, len(quiet))
        chosen = [quiet[number * len(quiet) // searched] for number in range(searched)]
        readings = [reading for image in chosen if (reading := find(image, key)) is not None]
    else:
        readings = []
    named = {reading.mark_id: reading for reading in reversed(readings) if reading.mark_id is not None}
    if named:
        return sorted(named.values(), key=lambda reading: -reading.agreement)
    return [max(readings, key=lambda r: r.agreement)] if readings else []


def _means(frames: Iterable[Plane]) -> Iterator[Plane]:
    """Yield the mean of each WINDOW_FRAMES frames, float32 [2, h, w]; the last ones may be fewer."""
    total: npt.NDArray[np.float64] | None = None
    count = windows = 0
    for frame in frames:
        total = frame.astype(np.float64) if total is None else total + frame
        count += 1
        if count == WINDOW_FRAMES:
            yield np.asarray(total / count, dtype=np.float32)
            total, count, windows = None, 0, windows + 1
            if windows == WINDOWS_MAX:
                return
    if total is not None and (windows == 0 or count >= WINDOW_FRAMES / 2):
        yield np.asarray(total / count, dtype=np.float32)


def whiten(mean: Plane) -> Plane:
    """Return what is left of a plane of a mean of frames without its picture: differences between neighbouring places.

    `mean` float32 [h, w]: luma or Cb of reduced frames, in levels of 255.
    """
    radius = round(1.25 * _READ_CHIP)
    rest = mean - _box_mean(mean, radius)
    # Edges are far stronger than the pattern: each place counts by how quiet it is.
    rest = rest / np.sqrt(_box_mean(rest**2, radius) + 1.0)
    # And so does each frequency: textures are strongest where the pattern is not, at what is larger than a chip.
    spectrum = np.fft.rfft2(rest)
    power = _box_mean(np.asarray(np.abs(spectrum) ** 2, dtype=np.float32), 4)
    level = np.sqrt(power + 1e-9 * power.max() + 1e-12)
    return np.asarray(np.fft.irfft2(spectrum / level, s=rest.shape), dtype=np.float32)


def _box_mean(image: Plane, radius: int) -> Plane:
    """Return the mean of the square of 2 radius + 1 pixels around each pixel, float32 [h, w]."""
    for axis in (0, 1):
        size = image.shape[axis]
        padding = [(0, 0), (0, 0)]
        padding[axis] = (radius + 1, radius)
        total = np.cumsum(np.pad(image, padding, mode="edge"), axis=axis, dtype=np.float64)
        upper = np.take(total, range(2 * radius + 1, size + 2 * radius + 1), axis=axis)
        lower = np.take(total, range(size), axis=axis)
        image = np.asarray((upper - lower) / (2 * radius + 1), dtype=np.float32)
    return image


@lru_cache(maxsize=4)
def _search_pattern(key: bytes) -> npt.NDArray[np.complex64]:
    """Return the transform of the pattern that all films of a key share, complex64 [side, side / 2 + 1]."""
    plane = np.zeros((_SEARCH_SIDE, _SEARCH_SIDE), dtype=np.float32)
    side = PLANE * _SEARCH_CHIP
    chips = Image.fromarray(layout(key).sync())
    plane[:side, :side] = np.asarray(chips.resize((side, side), Image.Resampling.BILINEAR))
    return np.asarray(np.fft.rfft2(plane), dtype=np.complex64)


def _resize(image: Image.Image, factor: float) -> Plane:
    """Return a picture with each side `factor` times as long, to whole pixels; the rest of the last is cut off."""
    width, height = (max(1, int(length * factor)) for length in image.size)
    box = (0.0, 0.0, width / factor, height / factor)
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box=box), dtype=np.float32)


def _agreements(image: Plane, pattern: npt.NDArray[np.complex64]) -> Plane:
    """Return how well an image agrees with the pattern at each place, in standard deviations.

    They are measured where the image lies whole in the plane. Elsewhere less agreement is possible, and counts less.
    """
    field = np.zeros((_SEARCH_SIDE, _SEARCH_SIDE), dtype=np.float32)
    height, width = (min(length, _SEARCH_SIDE) for length in image.shape)
    field[:height, :width] = image[:height, :width]
    surface = np.fft.irfft2(pattern * np.conj(np.fft.rfft2(field)), s=field.shape)
    side = PLANE * _SEARCH_CHIP
    within = surface[: max(1, side - height), : max(1, side - width)]
    spread = within.std() if within.size > _PLACES_MIN else surface.std()
    return np.asarray(surface / (spread + 1e-12), dtype=np.float32)


def find(quiet: Plane, key: bytes, scales: Sequence[float] = SCALES) -> Reading | None:
    """Return the pattern of a key in what `whiten` left, float32 [h, w], or None where there is none."""
    picture, pattern = Image.fromarray(quiet), _search_pattern(key)
    best = (0.0, Place(1.0, 0.0, 0.0))
    for scale in scales:
        surface = _agreements(_resize(picture, _SEARCH_CHIP / _READ_CHIP / scale), pattern)
        index = int(surface.argmax())
        agreement = float(surface.flat[index])
        if agreement > best[0]:
            # Beyond the plane the offsets are those of a frame that begins before it.
            top, left = (
                offset - _SEARCH_SIDE if offset > PLANE * _SEARCH_CHIP else offset
                for offset in divmod(index, _SEARCH_SIDE)
            )
            best = (agreement, Place(scale, top / _SEARCH_CHIP, left / _SEARCH_CHIP))
    if best[0] < LOOK_THRESHOLD:
        return None
    return _read(quiet, key, best[0], _refine(quiet, key, best[1]))


def _refine(quiet: Plane, key: bytes, place: Place) -> Place:
    """Return the place near this one at which the known chips agree best."""
    picture, sync = Image.fromarray(quiet), layout(key).sync()
    best = (-np.inf, place)
    for step in (0.002, 0.0005):
        centre = best[1]
        for scale in centre.scale * (1 + step * np.arange(-3, 4)):
            for d_top in (-0.25, 0.0, 0.25):
                for d_left in (-0.25, 0.0, 0.25):
                    near = Place(float(scale), centre.top + d_top, centre.left + d_left)
                    values, rows, columns = _chip_values(picture, near)
                    score = float((values * sync[np.ix_(rows, columns)]).sum())
                    if score > best[0]:
                        best = (score, near)
    return best[1]


def _read(quiet: Plane, key: bytes, agreement: float, place: Place) -> Reading:
    """Read the id of a pattern at its place."""
    values, rows, columns = _chip_values(Image.fromarray(quiet), place)
    plane, grid = layout(key), np.ix_(rows, columns)
    bits, signs = plane.bits[grid], plane.signs[grid]
    is_data = bits >= 0
    evidence = np.bincount(bits[is_data], weights=(values * signs)[is_data], minlength=CODE_BITS)
    return Reading(agreement, place, decode(evidence.astype(np.float64)))


def _chip_values(picture: Image.Image, place: Place) -> tuple[Plane, npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the mean level of each chip that lies whole in the frame, and its row and column in the plane."""
    chip = _READ_CHIP * place.scale
    first_row, first_column = int(np.ceil(place.top)), int(np.ceil(place.left))
    y, x = (first_row - place.top) * chip, (first_column - place.left) * chip
    rows, columns = int((picture.height - y) / chip), int((picture.width - x) / chip)
    if rows < 1 or columns < 1:
        return np.zeros((0, 0), dtype=np.float32), np.arange(0), np.arange(0)
    box = (x, y, x + columns * chip, y + rows * chip)
    values = np.asarray(picture.resize((columns, rows), Image.Resampling.BILINEAR, box=box), dtype=np.float32)
    return values, (first_row + np.arange(rows)) % PLANE, (first_column + np.arange(columns)) % PLANE
