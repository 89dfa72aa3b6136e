"""Exact numbers: seconds and amounts are rationals, never floats, and have one text form."""

import re
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

# What the money functions accept. A float is refused by type: plain floats happen to agree with every published
# example, so a test of examples would never catch one.
Exact = int | Decimal | Fraction

_EXACT_TEXT = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,40}|/[1-9][0-9]{0,39})?")


def parse_exact(value: object, name: str = "amount") -> Fraction:
    """Return `value` as a Fraction, unchanged in size.

    `name` names the value in an error. Raises TypeError for floats, bools and everything that is
    not an int, a Decimal or a Fraction, and ValueError for a Decimal that is not finite.
    """
    if type(value) is Fraction:
        return value
    if isinstance(value, bool) or not isinstance(value, int | Decimal | Fraction):
        raise TypeError(f"{name} must be an int, a Decimal or a Fraction, not {type(value).__name__}")
    if isinstance(value, Decimal) and not value.is_finite():
        raise ValueError(f"{name} must be finite, not {value}")
    return Fraction(value)


@lru_cache(maxsize=4096)
def fraction_of(value: Decimal) -> Fraction:
    """Return a number of a price book as a Fraction. There are few of them, and each prices many films."""
    return Fraction(value)


def exact_text(value: Exact) -> str:
    """Return the one text form of an exact number: a plain decimal where it ends (`4.5`), else `n/d` (`121/24`)."""
    return _exact_text(value)


# Typed, since True and 1.0 are equal to 1, but are no exact numbers.
@lru_cache(maxsize=4096, typed=True)
def _exact_text(value: Exact) -> str:
    number = parse_exact(value)
    rest, twos, fives = number.denominator, 0, 0
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    if rest != 1:
        return f"{number.numerator}/{number.denominator}"
    places = max(twos, fives)
    digits = str(abs(number.numerator) * 10**places // number.denominator).rjust(places + 1, "0")
    sign = "-" if number < 0 else ""
    return sign + (f"{digits[:-places]}.{digits[-places:]}" if places else digits)


def exact_number(text: str) -> Fraction:
    """Read what `exact_text` wrote. Raises ValueError for any other text, TypeError for a value that is not text."""
    if not isinstance(text, str):
        raise TypeError(f"an exact number in text must be a str, not {type(text).__name__}")
    return _number(text)


@lru_cache(maxsize=4096)
def _number(text: str) -> Fraction:
    if not _EXACT_TEXT.fullmatch(text):
        raise ValueError(f"{text!r} is not an exact number such as '5', '4.5' or '121/24'")
    return Fraction(text)
