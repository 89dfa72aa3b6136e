"""Still pictures of a film: the poster, and the sprite sheet that a player shows while seeking."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from PIL import Image

from workers.film.encoding import FilmError
from workers.film.film_index import FilmIndex

_COLUMNS = 5
_TILES_MAX = 25
# The longer side of one tile, in pixels.
_TILE_SIDE = 320
_POSTER_QUALITY, _SHEET_QUALITY = 90, 85

Picture = npt.NDArray[np.uint8]


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

    def place(self, tile: int) -> tuple[slice, slice]:
        """Return the rows and the columns of the sheet, in pixels, that a tile covers."""
        top, left = tile // self.columns * self.tile_height, tile % self.columns * self.tile_width
        return slice(top, top + self.tile_height), slice(left, left + self.tile_width)


def sheet_geometry(film: FilmIndex) -> SheetGeometry:
    """Return the geometry of the sheet of a film of this index: up to 25 tiles, evenly spread, five in a row.

    The tiles of a film with enough key frames show these.
    """
    tiles = min(_TILES_MAX, film.frames)
    factor = Fraction(_TILE_SIDE, max(film.width, film.height))
    frames = [number * film.frames // tiles for number in range(tiles)]
    if _has_near_keys(film, tiles):
        frames = [min(film.key_frames, key=lambda key: abs(key - number)) for number in frames]
    return SheetGeometry(
        columns=min(_COLUMNS, tiles),
        rows=-(-tiles // _COLUMNS),
        tile_width=_even(film.width * factor),
        tile_height=_even(film.height * factor),
        tile_frames=tuple(frames),
    )


def _has_near_keys(film: FilmIndex, tiles: int) -> bool:
    """Return whether the film is so long that each tile has its own key frame near by."""
    bounds = [*film.key_frames, film.frames]
    return max(later - earlier for earlier, later in pairwise(bounds)) * tiles < film.frames


class FilmPictures:
    """Draws the poster (the frame in the middle) and the sprite sheet of a film as its frames are decoded.

    `read` is called with each of them. Both pictures are uint8 [H, W, 3], RGB, and may be drawn into before they are
    written.
    """

    def __init__(self, film: FilmIndex) -> None:
        self.sheet = sheet_geometry(film)
        self.poster: Picture = np.zeros((film.height, film.width, 3), np.uint8)
        rows, columns = self.sheet.rows * self.sheet.tile_height, self.sheet.columns * self.sheet.tile_width
        self.sprites: Picture = np.zeros((rows, columns, 3), np.uint8)
        self._middle = film.frames // 2
        self._tiles = {number: tile for tile, number in enumerate(self.sheet.tile_frames)}
        self._missing = {self._middle, *self._tiles}

    def read(self, number: int, frame: Any) -> None:
        """Draw what shows frame `number` (from 0), a decoded frame of PyAV."""
        if number == self._middle:
            self.poster[:] = _rgb(frame, frame.width, frame.height)
        if (tile := self._tiles.get(number)) is not None:
            self.sprites[self.sheet.place(tile)] = _rgb(frame, self.sheet.tile_width, self.sheet.tile_height)
        self._missing.discard(number)

    def tiles(self) -> Iterator[Picture]:
        """Yield the tiles of the sprite sheet, each a part of it, uint8 [h, w, 3]."""
        for tile in range(len(self.sheet.tile_frames)):
            yield self.sprites[self.sheet.place(tile)]

    def write(self, poster: Path, sprites: Path) -> None:
        """Write both pictures as JPEG files. Raises FilmError when a frame that they show was not read."""
        if self._missing:
            raise FilmError(f"frame {min(self._missing)} of the film was not decoded, and its pictures show it")
        Image.fromarray(self.poster).save(poster, "JPEG", quality=_POSTER_QUALITY)
        Image.fromarray(self.sprites).save(sprites, "JPEG", quality=_SHEET_QUALITY)


def _rgb(frame: Any, width: int, height: int) -> Picture:
    """Return a decoded frame at this size as RGB, uint8 [height, width, 3]; ours are all tagged BT.709."""
    small = frame.reformat(
        width,
        height,
        "rgb24",
        src_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        interpolation=Interpolation.AREA,
        threads=1,
    )
    return np.asarray(small.to_ndarray(), np.uint8)


def _even(length: Fraction) -> int:
    return max(2, 2 * round(length / 2))
