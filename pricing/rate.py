"""Rates: what a second of film costs, by model, resolution, mode and sound. The most specific match wins."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pricing.exact import exact_text
from pricing.schema import IDENTIFIER, Table

RESOLUTIONS = ("480P", "720P", "1080P")
MODES = ("t2v", "i2v", "v2v", "edit", "extend")
# Modes that read a video: their input seconds are billed on a line of their own.
READING_MODES = ("v2v", "edit", "extend")

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
class Rate:
    """The list price of one second, in whole currency units, for what it matches.

    `audio` None means with and without sound. `input_per_second` is the price of one second of video that is read;
    without it the rate sells no mode that reads video.
    """

    id: str
    model: str
    resolution: str
    mode: str
    audio: bool | None
    per_second: Decimal
    input_per_second: Decimal | None

    @classmethod
    def read(cls, table: Table) -> "Rate":
        """Read one `[[rates]]` table."""
        rate = cls(
            id=table.text("id", pattern=IDENTIFIER),
            model=table.text("model", required=False, default="*", pattern=MODEL_PATTERN),
            resolution=table.choice("resolution", (*RESOLUTIONS, "*"), default="*"),
            mode=table.choice("mode", (*MODES, "*"), default="*"),
            audio=table.flag("audio"),
            per_second=table.factor("per_second", "0", "1000000"),
            input_per_second=table.decimal("input_per_second", required=False),
        )
        table.close()
        return rate

    def content(self) -> dict[str, Any]:
        """Return the rate as plain values, as `read` takes them."""
        values: dict[str, Any] = {"id": self.id, "model": self.model, "resolution": self.resolution, "mode": self.mode}
        values["per_second"] = exact_text(self.per_second)
        if self.audio is not None:
            values["audio"] = self.audio
        if self.input_per_second is not None:
            values["input_per_second"] = exact_text(self.input_per_second)
        return values

    @property
    def place(self) -> tuple[str, str, str, bool | None]:
        """What the rate matches; two rates of one list never share a place."""
        return (self.model, self.resolution, self.mode, self.audio)

    @property
    def rank(self) -> tuple[int, bool, bool, bool]:
        """How specific the rate is: model first (a name, then the longer pattern, a prefix before a suffix),

        then resolution, mode and sound. Two rates that match the same usage never share a rank.
        """
        named = "*" not in self.model
        model = 10_000 if named else 2 * (len(self.model) - 1) + (not self.model.startswith("*"))
        return (model, self.resolution != "*", self.mode != "*", self.audio is not None)

    def matches(self, model: str, resolution: str, mode: str, audio: bool) -> bool:
        """Say whether the rate sells this: a mode that reads video needs a price for the seconds it reads."""
        return (
            model_matches(self.model, model)
            and self.resolution in ("*", resolution)
            and self.mode in ("*", mode)
            and self.audio in (None, audio)
            and (self.input_per_second is not None or mode not in READING_MODES)
        )


def read_rates(table: Table) -> tuple[Rate, ...]:
    """Read the `[[rates]]` of a book or contract, at least one; two that cannot be told apart are refused."""
    rates = tuple(Rate.read(item) for item in table.tables("rates", at_least=1))
    places: dict[tuple[str, str, str, bool | None], Rate] = {}
    for index, rate in enumerate(rates):
        other = places.setdefault(rate.place, rate)
        if other is not rate:
            message = f"matches exactly what rate {other.id!r} matches; one of them has to go or to be more specific"
            table.wrong(f"rates[{index}]", message)
    refuse_twins(table, "rates", [rate.id for rate in rates])
    return rates


def refuse_twins(table: Table, key: str, identifiers: Sequence[str]) -> None:
    """Report each identifier of the list `key` that stands there more than once."""
    for index, identifier in enumerate(identifiers):
        if identifier and identifier in identifiers[:index]:
            table.wrong(f"{key}[{index}].id", f"{identifier!r} is used twice; ids are different within {key}")


def best_rate(rates: Sequence[Rate], model: str, resolution: str, mode: str, audio: bool) -> Rate | None:
    """Return the most specific rate that matches, or None."""
    fitting = [rate for rate in rates if rate.matches(model, resolution, mode, audio)]
    return max(fitting, key=lambda rate: rate.rank, default=None)
