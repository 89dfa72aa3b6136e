"""Money in whole minor units, the one rounding, and lines that always sum to their total."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from pricing.exact import Exact, parse_exact

# Digits after the point in each currency that a book may be written in (ISO 4217).
MINOR_DIGITS = {"CNY": 2, "EUR": 2, "GBP": 2, "HKD": 2, "JPY": 0, "KRW": 0, "SGD": 2, "USD": 2}


def minor_per_major(currency: str) -> int:
    """Return how many minor units make one unit of `currency` (100 fen are one yuan). ValueError if unknown."""
    if currency not in MINOR_DIGITS:
        raise ValueError(f"unknown currency {currency!r}; known are {', '.join(MINOR_DIGITS)}")
    return int(10 ** MINOR_DIGITS[currency])


def require_integer(amount: Any, name: str = "amount", *, least: int | None = 0) -> int:
    """Return an amount of whole minor units, as everything that is stored or moved counts.

    Raises TypeError for a float, a Decimal, a bool or text; `round_to_minor` is the one rounding. Raises ValueError
    below `least`; None lets any sign through.
    """
    if isinstance(amount, bool) or not isinstance(amount, int):
        raise TypeError(f"{name} counts whole minor units (int), not {type(amount).__name__}")
    if least is not None and amount < least:
        raise ValueError(f"{name} must be {least} or more minor units, not {amount}")
    return amount


@dataclass(frozen=True, slots=True)
class Money:
    """An amount that can be paid: whole minor units (fen) of one currency. It may be negative on a line.

    There is no multiplication: a product is exact and becomes Money only through `round_to_minor`.
    """

    minor: int
    currency: str

    def __post_init__(self) -> None:
        require_integer(self.minor, "Money", least=None)
        if not isinstance(self.currency, str):
            raise TypeError(f"a currency is a code such as 'CNY', not {type(self.currency).__name__}")
        minor_per_major(self.currency)

    @classmethod
    def zero(cls, currency: str) -> "Money":
        """Return no money at all, in `currency`."""
        return cls(0, currency)

    @classmethod
    def parse(cls, text: str, currency: str) -> "Money":
        """Read a decimal string (`4.39`) exactly.

        Raises TypeError for a value that is not text, ValueError for text with more digits than the currency has.
        """
        if not isinstance(text, str):
            raise TypeError(f"money is read from a decimal string, not from {type(text).__name__}")
        if not re.fullmatch(r"-?[0-9]{1,15}(\.[0-9]{1,10})?", text):
            raise ValueError(f"{text!r} is not an amount such as '4.39'")
        minor = Fraction(text) * minor_per_major(currency)
        if minor.denominator != 1:
            raise ValueError(f"{text!r} has more than the {MINOR_DIGITS[currency]} decimals of {currency}")
        return cls(minor.numerator, currency)

    @property
    def text(self) -> str:
        """The amount as a decimal string with every digit of the currency: `4.50`, `-0.07`."""
        digits = MINOR_DIGITS[self.currency]
        whole = str(abs(self.minor)).rjust(digits + 1, "0")
        sign = "-" if self.minor < 0 else ""
        return sign + (f"{whole[:-digits]}.{whole[-digits:]}" if digits else whole)

    @property
    def major(self) -> Decimal:
        """The amount in whole currency units, as an exact Decimal."""
        return Decimal(self.text)

    def __str__(self) -> str:
        return f"{self.text} {self.currency}"

    def _same(self, other: object) -> "Money":
        other = only_money(other)
        if other.currency != self.currency:
            raise ValueError(f"{self.currency} and {other.currency} do not mix")
        return other

    def __add__(self, other: "Money") -> "Money":
        return Money(self.minor + self._same(other).minor, self.currency)

    def __sub__(self, other: "Money") -> "Money":
        return Money(self.minor - self._same(other).minor, self.currency)

    def __neg__(self) -> "Money":
        return Money(-self.minor, self.currency)

    def __lt__(self, other: "Money") -> bool:
        return self.minor < self._same(other).minor

    def __le__(self, other: "Money") -> bool:
        return self.minor <= self._same(other).minor

    def __gt__(self, other: "Money") -> bool:
        return self.minor > self._same(other).minor

    def __ge__(self, other: "Money") -> bool:
        return self.minor >= self._same(other).minor


def only_money(amount: object) -> Money:
    """Return Money unchanged. Raises TypeError for everything else: a bare number has no currency."""
    if not isinstance(amount, Money):
        raise TypeError(f"money is combined only with money, not {type(amount).__name__}")
    return amount


def round_to_minor(amount: Exact, currency: str) -> Money:
    """Round an exact amount of whole currency units to Money, half up (a tie goes away from zero).

    This is the only rounding of money; a job's total is rounded once. Raises TypeError for a float.
    """
    minor = parse_exact(amount) * minor_per_major(currency)
    size = (2 * abs(minor.numerator) + minor.denominator) // (2 * minor.denominator)
    return Money(-size if minor < 0 else size, currency)


def split(total: Money, parts: Sequence[Exact]) -> tuple[Money, ...]:
    """Share a settled total among exact parts (whole currency units) so that the shares sum to it.

    Largest remainder: each part is rounded down, and the minor units still missing go to the parts that lost
    most, earlier parts first on a tie. Each share lies within one minor unit of its part, and a part that is
    already whole stays as it is. Raises ValueError if the parts do not settle to `total`, TypeError for a float.
    """
    only_money(total)
    exacts = [parse_exact(part, "part") for part in parts]
    if round_to_minor(sum(exacts, Fraction(0)), total.currency) != total:
        raise ValueError(f"the parts do not settle to {total}")
    scale = minor_per_major(total.currency)
    shares = [part.numerator * scale // part.denominator for part in exacts]
    missing = total.minor - sum(shares)
    if not missing:
        return tuple(Money(share, total.currency) for share in shares)
    lost = [part * scale - share for part, share in zip(exacts, shares, strict=True)]
    for index in sorted(range(len(shares)), key=lambda i: (-lost[i], i))[:missing]:
        shares[index] += 1
    return tuple(Money(share, total.currency) for share in shares)
