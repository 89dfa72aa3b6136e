"""Order errors that need another message on a page than in the API, where the client chose the price limit."""

from decimal import Decimal

from app.errors import AppError
from app.web.formats import money


def order_error(error: AppError, shown_price: str) -> AppError:
    """Return an order's error with the page's message for `price_above_cap`; other errors are returned unchanged.

    A page's price limit is the price that it showed. Prices change by time alone, so that price may be outdated; the
    page that this error is shown on has the new one, and ordering again accepts it.
    """
    if error.code != "price_above_cap":
        return error
    price, currency = str(error.facts["price"]), str(error.facts["currency"])
    prices = f"The price is now {money(price, currency)}; the page showed {money(Decimal(shown_price), currency)}."
    return AppError(error.code, f"{prices} Order again to accept it.")
