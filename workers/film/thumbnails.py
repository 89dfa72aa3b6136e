"""Still pictures of a film: the poster, and the sprite sheet that a player shows while seeking."""

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import ffmpeg

from workers.film.encoding import SCALE_FLAGS, FilmError
from workers.film.ffmpeg import run
from workers.film.measure import Measure

_COLUMNS = 5
_TILES_MAX = 25
# The longer side of one tile, in pixels.
_TILE_SIDE = 320
_SECONDS_MAX = 600.0


@dataclass(frozen=True)
class SheetGeometry:
    """The layout of a sprite sheet: tile k (from 0) is at column k % columns, row k // columns.

    It shows frame `tile_frames[k]` of the film.
    """

    columns: int
    rows: int
    tile_width: int
    tile_height: int
    tile_frames: tuple[int, ...]


def sheet_geometry(film: Measure) -> SheetGeometry:
    """Return the geometry of the sheet of a film of these measures: up to 25 tiles, evenly spread, five in a row."""
    tiles = min(_TILES_MAX, film.frames)
    factor = Fraction(_TILE_SIDE, max(film.width, film.height))
    frames = [number * film.frames // tiles for number in range(tiles)]
    if _uses_keys(film, tiles):
        frames = [min(film.key_frames, key=lambda key: abs(key - number)) for number in frames]
    return SheetGeometry(
        columns=min(_COLUMNS, tiles),
        rows=-(-tiles // _COLUMNS),
        tile_width=_even(film.width * factor),
        tile_height=_even(film.height * factor),
        tile_frames=tuple(frames),
    )


def _uses_keys(film: Measure, tiles: int) -> bool:
    """Return whether the film is so long that each tile has its own key frame near by: decoding these is enough."""
    bounds = [*film.key_frames, film.frames]
    return max(later - earlier for earlier, later in pairwise(bounds)) * tiles < film.frames


def poster(film: Path, out: Path, *, measure: Measure) -> None:
    """Write the frame in the middle of `film` as a JPEG of the film's size. Raises FilmError when ffmpeg fails."""
    # A quarter of a frame early, so that rounding cannot skip the wanted frame.
    moment = max(Fraction(0), (Fraction(measure.frames // 2) - Fraction(1, 4)) / measure.fps)
    source = ffmpeg.input(str(film), f="mov", protocol_whitelist="file", ss=f"{float(moment):.6f}").video
    _write(source, out, width=measure.width, height=measure.height, quality=3)


def spritesheet(film: Path, out: Path, *, measure: Measure) -> SheetGeometry:
    """Write the sprite sheet of `film` as a JPEG and return how to read it. Raises FilmError when ffmpeg fails."""
    sheet = sheet_geometry(measure)
    numbers = sheet.tile_frames
    options = {}
    if _uses_keys(measure, len(numbers)):
        numbers = tuple(measure.key_frames.index(number) for number in numbers)
        options = {"skip_frame": "nokey"}
    frames = "+".join(f"eq(n,{number})" for number in numbers)
    source = ffmpeg.input(str(film), f="mov", protocol_whitelist="file", **options).video.filter("select", frames)
    small = source.filter("scale", sheet.tile_width, sheet.tile_height, flags="area")
    tiled = small.filter("tile", layout=f"{sheet.columns}x{sheet.rows}", nb_frames=len(sheet.tile_frames))
    width, height = sheet.columns * sheet.tile_width, sheet.rows * sheet.tile_height
    _write(tiled, out, width=width, height=height, quality=5)
    return sheet


def _write(pictures: Any, out: Path, *, width: int, height: int, quality: int) -> None:
    # JPEG files are read as full-range BT.601, whatever the film was.
    converted = pictures.filter(
        "scale",
        width,
        height,
        flags=SCALE_FLAGS,
        in_color_matrix="bt709",
        in_range="tv",
        out_color_matrix="bt601",
        out_range="pc",
    ).filter("format", "yuvj420p")
    partial = out.with_name(out.name + ".partial")
    graph = converted.output(
        str(partial), f="image2", update=1, **{"c:v": "mjpeg", "q:v": quality, "frames:v": 1, "map_metadata": -1}
    )
    run(graph, seconds_max=_SECONDS_MAX)
    if not partial.exists():
        raise FilmError(f"{out.name} could not be made: the film has no picture there")
    partial.replace(out)


def _even(length: Fraction) -> int:
    return max(2, 2 * round(length / 2))
