"""Amounts in the wallet are whole minor units; anything else is refused by its type before it meets a row."""

from typing import Any

from pricing.money import Money


def whole(amount: Any, name: str = "amount", *, least: int | None = 0) -> int:
    """Return an amount of whole minor units.

    Raises:
        TypeError: for a float, a Decimal, a bool or text; the one rounding happened in `pricing.money.settle`.
        ValueError: below `least`; None lets any sign through.
    """
    if isinstance(amount, bool) or not isinstance(amount, int):
        raise TypeError(f"{name} counts whole minor units (int), not {type(amount).__name__}")
    if least is not None and amount < least:
        raise ValueError(f"{name} must be {least} or more minor units, not {amount}")
    return amount


def spelled(minor: int, currency: str) -> str:
    """Return minor units as the decimal string that problem documents carry: 439 CNY is `4.39`."""
    return Money(minor, currency).text
