"""Refusals of orders that read otherwise on a page than at the API's doors, where a program had set the limit."""

from decimal import Decimal

from app.errors import AppError
from app.web.formats import money


def of_order(error: AppError, shown: str) -> AppError:
    """Return a refusal in the words of the page, which showed a price that the order was not to exceed.

    Prices change by time alone, so the page may have been open for long. What it shows now is the new price, and
    ordering again accepts that.
    """
    if error.code != "price_above_cap":
        return error
    price, currency = str(error.facts["price"]), str(error.facts["currency"])
    words = f"The price is now {money(price, currency)}; the page showed {money(Decimal(shown), currency)}."
    return AppError(error.code, f"{words} Order again to accept it.")
