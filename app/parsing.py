"""Parse untrusted integers."""

import re

_DIGITS = re.compile(r"[0-9]+")
# Longer numbers are clamped to this: more than anything that is counted here, and cheap to convert.
LARGEST = 10**18


def parse_integer(text: str) -> int | None:
    """Parse a text of ASCII digits and clamp it to LARGEST; return None for any other text.

    `str.isdigit` accepts characters such as `²`, which `int` refuses, and `int` refuses thousands of digits.
    """
    if _DIGITS.fullmatch(text) is None:
        return None
    plain = text.lstrip("0")
    return int(plain or "0") if len(plain) <= 18 else LARGEST
