"""Rates: the price of a second of film. The most specific match wins."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pricing.exact import exact_text
from pricing.rate_key import READING_MODES, RateKey, RatePattern
from pricing.schema import IDENTIFIER, Table


@dataclass(frozen=True, slots=True)
class Rate:
    """The price of one second, in whole currency units, of the films that its pattern selects.

    `input_per_second` is the price of one second of video that is read; without it the rate sells no mode that reads
    video.
    """

    id: str
    pattern: RatePattern
    per_second: Decimal
    input_per_second: Decimal | None

    @classmethod
    def read(cls, table: Table) -> "Rate":
        """Read one `[[rates]]` table."""
        rate = cls(
            id=table.text("id", pattern=IDENTIFIER),
            pattern=RatePattern.read(table),
            per_second=table.factor("per_second", "0", "1000000"),
            input_per_second=table.decimal("input_per_second", required=False),
        )
        table.close()
        return rate

    def content(self) -> dict[str, Any]:
        """Return the rate as plain values, as `read` takes them."""
        values = {"id": self.id, **self.pattern.content(), "per_second": exact_text(self.per_second)}
        if self.input_per_second is not None:
            values["input_per_second"] = exact_text(self.input_per_second)
        return values

    def sells(self, key: RateKey) -> bool:
        """Say whether the rate prices a film: a mode that reads video needs a price for the seconds it reads."""
        return self.pattern.matches(key) and (self.input_per_second is not None or key.mode not in READING_MODES)


def read_rates(table: Table) -> tuple[Rate, ...]:
    """Read the `[[rates]]` of a book or contract, at least one; two that cannot be told apart are refused."""
    rates = tuple(Rate.read(item) for item in table.tables("rates", at_least=1))
    by_pattern: dict[RatePattern, Rate] = {}
    for index, rate in enumerate(rates):
        other = by_pattern.setdefault(rate.pattern, rate)
        if other is not rate:
            message = f"matches exactly what rate {other.id!r} matches; one of them has to go or to be more specific"
            table.wrong(f"rates[{index}]", message)
    refuse_duplicates(table, "rates", [rate.id for rate in rates])
    return rates


def refuse_duplicates(table: Table, key: str, identifiers: Sequence[str]) -> None:
    """Report each identifier of the list `key` that occurs more than once."""
    for index, identifier in enumerate(identifiers):
        if identifier and identifier in identifiers[:index]:
            table.wrong(f"{key}[{index}].id", f"{identifier!r} is used twice; ids are different within {key}")


def best_rate(rates: Sequence[Rate], key: RateKey) -> Rate | None:
    """Return the most specific rate that prices a film, or None."""
    fitting = [rate for rate in rates if rate.sells(key)]
    return max(fitting, key=lambda rate: rate.pattern.rank, default=None)
