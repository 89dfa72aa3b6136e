"""Amounts that people type into forms."""

from app.errors import AppError
from pricing.money import Money


def read_amount(text: str, currency: str, field: str, *, least: int = 0) -> int:
    """Return an amount that was typed, in minor units; a thousands comma and a currency sign are let pass.

    Raises AppError `invalid_request` for what is no amount, or is below `least`.
    """
    plain = text.replace(",", "").lstrip("¥$€£ ").strip()
    try:
        minor = Money.parse(plain, currency).minor
    except ValueError:
        message = f"{text!r} is no amount such as 100 or 99.50."
        raise AppError("invalid_request", message, field=field, value=text) from None
    if minor < least:
        floor = Money(least, currency).text
        raise AppError("invalid_request", f"The amount is at least {floor}.", field=field, value=text)
    return minor


def read_optional(text: str, currency: str, field: str) -> int | None:
    """Return an amount, or None where nothing was typed."""
    return read_amount(text, currency, field) if text else None
