"""The dimensions of a price: what one second of film is priced by, and the patterns by which a rate selects films.

This is the one place that lists the dimensions. A new one gets a field with a default in `RateKey`, so that a film
without it is priced, recorded and shown as before, and a field in `RatePattern`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, cast, get_args

from pricing.schema import Table

RESOLUTIONS = ("480P", "720P", "1080P")
Mode = Literal["t2v", "i2v", "v2v", "edit", "extend"]
MODES: tuple[Mode, ...] = get_args(Mode)
DEFAULT_MODE: Mode = "t2v"
# Modes that read a video: their input seconds are billed on a line of their own.
READING_MODES: tuple[Mode, ...] = ("v2v", "edit", "extend")

# A model's name, or a pattern with one star at either end: `demo`, `wan2.2-*`, `*-turbo`, `*`.
MODEL_PATTERN = re.compile(r"\*|[A-Za-z0-9][A-Za-z0-9._-]*\*?|\*[A-Za-z0-9._-]+")


def model_matches(pattern: str, model: str) -> bool:
    """Say whether `model` fits a pattern as `MODEL_PATTERN` describes it."""
    if pattern.startswith("*"):
        return model.endswith(pattern[1:])
    if pattern.endswith("*"):
        return model.startswith(pattern[:-1])
    return pattern == model


@dataclass(frozen=True, slots=True)
class RateKey:
    """What one second of a film is priced by. The defaults are those of a film made from text, without sound."""

    model: str
    resolution: str
    mode: Mode = DEFAULT_MODE
    audio: bool = False

    def __post_init__(self) -> None:
        for name in ("model", "resolution", "mode"):
            require_text(getattr(self, name), name)
        if not isinstance(self.audio, bool):
            raise TypeError(f"audio must be true or false, not {type(self.audio).__name__}")

    def __str__(self) -> str:
        return f"{self.model}, {self.resolution}, {self.mode}, {'with' if self.audio else 'without'} sound"

    @classmethod
    def read(cls, table: Table) -> "RateKey":
        """Read the dimensions of a worked example."""
        return cls(
            model=table.text("model", required=False, default="demo"),
            resolution=table.choice("resolution", RESOLUTIONS),
            mode=table.choice("mode", MODES, default=DEFAULT_MODE),
            audio=table.flag("audio", default=False) is True,
        )

    def content(self) -> dict[str, Any]:
        """Return the dimensions as plain values, by name."""
        return {name: getattr(self, name) for name in DIMENSIONS}

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> "RateKey":
        """Read the dimensions among the plain values of a usage; other values are left alone."""
        return cls(**{name: content[name] for name in DIMENSIONS if name in content})

    def facts(self) -> dict[str, str]:
        """Return the dimensions as text by name, as the line of the list price records them."""
        return {name: _fact(value) for name, value in self.content().items()}


# The names of the dimensions, in order. Stored receipts and simulations use them.
DIMENSIONS = tuple(field.name for field in fields(RateKey))


@dataclass(frozen=True, slots=True)
class RatePattern:
    """Which films a rate prices: `*` (for sound: None) stands for every value of a dimension."""

    model: str
    resolution: str
    mode: str
    audio: bool | None

    @classmethod
    def read(cls, table: Table) -> "RatePattern":
        """Read the dimensions of a `[[rates]]` table."""
        return cls(
            model=table.text("model", required=False, default="*", pattern=MODEL_PATTERN),
            resolution=table.choice("resolution", (*RESOLUTIONS, "*"), default="*"),
            mode=table.choice("mode", (*MODES, "*"), default="*"),
            audio=table.flag("audio"),
        )

    def content(self) -> dict[str, Any]:
        """Return the pattern as plain values, as `read` reads them."""
        values: dict[str, Any] = {"model": self.model, "resolution": self.resolution, "mode": self.mode}
        return values | ({} if self.audio is None else {"audio": self.audio})

    @property
    def rank(self) -> tuple[int, bool, bool, bool]:
        """How specific the pattern is: model first (a name, then the longer pattern, a prefix before a suffix),

        then resolution, mode and sound. Two patterns that match the same film never share a rank.
        """
        named = "*" not in self.model
        model = 10_000 if named else 2 * (len(self.model) - 1) + (not self.model.startswith("*"))
        return (model, self.resolution != "*", self.mode != "*", self.audio is not None)

    @property
    def is_special(self) -> bool:
        """Whether the pattern selects by anything but the resolution."""
        return self.model != "*" or self.mode != "*" or self.audio is not None

    def matches(self, key: RateKey) -> bool:
        """Say whether the pattern selects a film."""
        return (
            model_matches(self.model, key.model)
            and self.resolution in ("*", key.resolution)
            and self.mode in ("*", key.mode)
            and self.audio in (None, key.audio)
        )

    def sample_keys(self) -> tuple[RateKey, ...]:
        """Return one film per resolution that the pattern selects, for comparisons.

        A model pattern becomes a name that only it matches; any other open dimension has its default.
        """
        mode = DEFAULT_MODE if self.mode == "*" else cast(Mode, self.mode)
        return tuple(
            RateKey(self.model.replace("*", "any"), resolution, mode, self.audio is True)
            for resolution in (RESOLUTIONS if self.resolution == "*" else (self.resolution,))
        )


def require_text(text: object, name: str) -> None:
    """Check that `text` is a str and not empty; `name` is its name in the error. Raises TypeError."""
    if not isinstance(text, str) or not text:
        raise TypeError(f"{name} must be text that is not empty, not {text!r}")


def _fact(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
