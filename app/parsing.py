"""Whole numbers that strangers write: read from plain digits, whatever else a text may hold."""

import re

_DIGITS = re.compile(r"[0-9]+")
# Longer ones are read as this: more than anything that is counted here, and a number that is quickly made.
LARGEST = 10**18


def parse_integer(text: str) -> int | None:
    """Return the number that a text of plain digits says, at most LARGEST; None where it says none.

    `str.isdigit` admits signs such as `²`, which `int` refuses, and `int` refuses thousands of digits.
    """
    if _DIGITS.fullmatch(text) is None:
        return None
    plain = text.lstrip("0")
    return int(plain or "0") if len(plain) <= 18 else LARGEST
