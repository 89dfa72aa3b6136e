"""How the wallet's whole minor units are spelled for people and problem documents."""

from pricing.money import Money


def spelled(minor: int, currency: str) -> str:
    """Return minor units as the decimal string that problem documents carry: 439 CNY is `4.39`."""
    return Money(minor, currency).text
