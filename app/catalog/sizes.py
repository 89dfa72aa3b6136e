"""The picture sizes that are sold, and how requests name them."""

import re
import tomllib
from dataclasses import dataclass
from importlib.resources import files
from math import log

from app.errors import AppError

DEFAULT_RESOLUTION = "720P"
DEFAULT_RATIO = "16:9"


@dataclass(frozen=True)
class Size:
    """One sold picture size: its resolution class, its ratio, and its width and height in pixels."""

    resolution: str
    ratio: str
    width: int
    height: int

    @property
    def name(self) -> str:
        """The size as requests write it, such as `1280x720`."""
        return f"{self.width}x{self.height}"


def _read_sizes() -> tuple[Size, ...]:
    """Read sizes.toml, next to this file."""
    table = tomllib.loads(files("app.catalog").joinpath("sizes.toml").read_text(encoding="utf-8"))
    return tuple(
        Size(resolution, ratio, width, height)
        for resolution, ratios in table.items()
        for ratio, (width, height) in ratios.items()
    )


SIZES: tuple[Size, ...] = _read_sizes()
RESOLUTIONS: tuple[str, ...] = tuple(dict.fromkeys(size.resolution for size in SIZES))
RATIOS: tuple[str, ...] = tuple(dict.fromkeys(size.ratio for size in SIZES))


def resolve_size(size: str | None, resolution: str | None, ratio: str | None) -> Size:
    """Return the sold size that a request names.

    `size` is `WIDTHxHEIGHT` (also written with `*`, as DashScope does); `resolution` and `ratio` are the other way
    to name it, defaulting to 720P and 16:9. Where a request has both, they must agree.

    Raises AppError `unsupported_size` (with the nearest allowed size and all allowed ones) for a size that is not
    sold, and `invalid_request` where `size` contradicts `resolution` or `ratio`.
    """
    if size is None:
        return _by_class(resolution or DEFAULT_RESOLUTION, ratio or DEFAULT_RATIO)
    named = _by_pixels(size)
    for field, requested, actual in (("resolution", resolution, named.resolution), ("ratio", ratio, named.ratio)):
        if requested is not None and _normalize(requested) != _normalize(actual):
            message = f"The size {named.name} has the {field} {actual}, but the request also names {requested}."
            raise AppError("invalid_request", message, field=field, value=requested, allowed=[actual])
    return named


def _by_class(resolution: str, ratio: str) -> Size:
    """Return the size of a resolution class and ratio."""
    for field, value, allowed in (("resolution", resolution, RESOLUTIONS), ("ratio", ratio, RATIOS)):
        if _normalize(value) not in {_normalize(word) for word in allowed}:
            message = f"The {field} {value} is not sold; allowed are {', '.join(allowed)}."
            raise AppError("unsupported_size", message, field=field, value=value, allowed=list(allowed))
    wanted = (_normalize(resolution), _normalize(ratio))
    return next(size for size in SIZES if (_normalize(size.resolution), _normalize(size.ratio)) == wanted)


def _by_pixels(text: str) -> Size:
    """Return the size written as `WIDTHxHEIGHT` or `WIDTH*HEIGHT`."""
    allowed = [size.name for size in SIZES]
    match = re.fullmatch(r"\s*(\d{1,5})\s*[x×*]\s*(\d{1,5})\s*", text.lower(), flags=re.ASCII)
    if match is None or 0 in (width_height := (int(match[1]), int(match[2]))):
        message = "A size is written as width x height in pixels, such as 1280x720."
        raise AppError("unsupported_size", message, field="size", value=text, nearest="1280x720", allowed=allowed)
    for size in SIZES:
        if (size.width, size.height) == width_height:
            return size
    nearest = nearest_size(*width_height)
    message = f"The size {text} is not sold; the nearest that is sold is {nearest.name}."
    raise AppError("unsupported_size", message, field="size", value=text, nearest=nearest.name, allowed=allowed)


def nearest_size(width: int, height: int) -> Size:
    """Return the sold size nearest to `width` x `height` pixels, by the ratio of each side (so 2x is as far as 1/2)."""
    return min(SIZES, key=lambda size: log(size.width / width) ** 2 + log(size.height / height) ** 2)


def _normalize(text: str) -> str:
    """Return the form in which two spellings of a resolution or ratio are equal."""
    return text.strip().upper()
