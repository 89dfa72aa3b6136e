"""Amounts in US dollars beside those of the price book, at a rate that an order freezes."""

from decimal import ROUND_DOWN, ROUND_UP, Decimal
from typing import Any

from app.settings import get_settings
from pricing.money import Money

USD = "USD"


def usd_rate(currency: str) -> str | None:
    """Return the US dollars for one unit of a currency as a decimal string, or None where the operator set none."""
    return "1" if currency == USD else get_settings().usd_rate or None


def frozen_usd_rate(currency: str) -> dict[str, Any]:
    """Return what the stored price of an order has for its rate; nothing where there is none."""
    rate = usd_rate(currency)
    return {} if rate is None else {"usd_rate": rate}


def in_usd(minor: int, currency: str, rate: str) -> Decimal:
    """Return minor units of a currency in US dollars, exact."""
    return Decimal(Money(minor, currency).text) * Decimal(rate)


def in_us_cents(minor: int, currency: str, rate: str, *, up: bool) -> int:
    """Return minor units of a currency in whole US cents, rounded up or down (towards zero)."""
    return int((in_usd(minor, currency, rate) * 100).to_integral_value(ROUND_UP if up else ROUND_DOWN))
