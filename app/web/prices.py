"""The public prices: the book in force as a table, and a calculator that asks the same function that charges."""

from datetime import datetime, timedelta
from fractions import Fraction
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.orm import Session

from app.catalog.models import load_catalog
from app.clock import now
from app.errors import AppError
from app.prices.find import book_at
from app.settings import get_settings
from app.web.auth import MaybeVisitor, SessionDep
from app.web.formats import minor, money
from app.web.render import is_htmx, page
from pricing.book import PriceBook, PriceError
from pricing.labels import pattern_label
from pricing.money import round_to_minor
from pricing.price import per_second, price
from pricing.rate_key import RESOLUTIONS, RateKey
from pricing.usage import Customer, Usage

router = APIRouter(include_in_schema=False)

SECONDS_MAX = 600

Word = Annotated[str, Query(max_length=64)]


@router.get("/prices")
def show_prices(
    request: Request,
    session: SessionDep,
    visitor: MaybeVisitor,
    membership: Word = "",
    resolution: Word = "720P",
    service_tier: Word = "standard",
    seconds: Annotated[int, Query(ge=1, le=SECONDS_MAX)] = 10,
) -> Response:
    """Show the prices and the calculator. With htmx only the calculator's answer comes back."""
    moment = now(session)
    book = book_at(session, moment).book
    chosen = membership if membership in book.memberships else _dearest_offer(book)
    answer = _calculate(book, moment, chosen, resolution, service_tier, seconds)
    asked = {"membership": chosen, "resolution": resolution, "service_tier": service_tier, "seconds": seconds}
    if is_htmx(request):
        return page(request, "prices/answer.html", answer=answer)
    return page(request, "prices/prices.html", **_context(session, book, moment), asked=asked, answer=answer)


def _dearest_offer(book: PriceBook) -> str:
    """Return the membership that the calculator begins with: the first that pays less than the list price."""
    return next((each.id for each in book.memberships.values() if each.factor < 1), "free")


def _context(session: Session, book: PriceBook, moment: datetime) -> dict[str, Any]:
    models = [each for each in load_catalog(get_settings().catalog_dir).values() if each.enabled]
    general = next((each.id for each in models if each.family != "synthetic"), "any")
    resolutions = [each for each in RESOLUTIONS if _second(book, general, each, "free", moment) is not None]
    return {
        "title": "Prices",
        "currency": book.currency,
        "book": {"title": book.title.en, "name": book.name, "tax": f"{(book.tax_rate * 100).normalize():f}"},
        "resolutions": resolutions,
        "rows": [
            {
                "id": each.id,
                "title": each.title.en,
                "factor": f"{each.factor.normalize():f}",
                "prices": [_cell(book, general, name, each.id, moment) for name in resolutions],
                "concurrency": each.concurrency,
                "retention_days": each.retention_days,
                "free_seconds": f"{each.free_seconds_per_month}",
            }
            for each in book.memberships.values()
        ],
        "promotions": [
            {
                "title": each.title.en,
                "factor": f"{each.factor.normalize():f}",
                "ends_at": each.window.ends_at and each.window.ends_at - timedelta(seconds=1),
            }
            for each in book.promotions_at(moment)
        ],
        "tiers": [
            {"id": each.id, "title": each.title.en, "factor": f"{each.factor.normalize():f}", "words": _promise(each)}
            for each in book.service_tiers.values()
        ],
        "special": _special(book),
        "examples": [{"name": each.name, "total": money(each.total.text, book.currency)} for each in book.examples],
        "seconds_max": SECONDS_MAX,
    }


def _cell(book: PriceBook, model: str, resolution: str, membership: str, at: datetime) -> dict[str, Any]:
    listed = _second(book, model, resolution, membership, at, listed=True)
    own = _second(book, model, resolution, membership, at)
    return {
        "list": None if listed is None else _shown(listed, book.currency),
        "own": None if own is None else _shown(own, book.currency),
        "is_less": own is not None and listed is not None and own < listed,
    }


def _second(
    book: PriceBook, model: str, resolution: str, membership: str, at: datetime, *, listed: bool = False
) -> Fraction | None:
    """Return the exact price of one second, or None where nothing is sold."""
    key = RateKey(model, resolution)
    try:
        if listed:
            return Fraction(book.rate_for(key).per_second)
        return per_second(book, Usage(key, Fraction(1)), Customer(membership), at)
    except PriceError:
        return None


def _shown(amount: Fraction, currency: str) -> str:
    """Return a unit price rounded for display; a film is priced as a whole and never from this."""
    return minor(round_to_minor(amount, currency).minor, currency)


def _special(book: PriceBook) -> list[dict[str, Any]]:
    """Return the rates that stand apart from the general ones: for a model, a mode, or sound."""
    return [
        {
            "model": rate.pattern.model,
            "films": pattern_label(rate.pattern),
            "per_second": money(rate.per_second, book.currency),
        }
        for rate in book.rates
        if rate.pattern.is_special
    ]


def _promise(tier: Any) -> str:
    if tier.deadline is not None:
        return f"Runs on idle capacity. Not started within {int(tier.deadline.total_seconds() // 3600)} hours: free."
    if tier.start_within is not None:
        minutes = int(tier.start_within.total_seconds() // 60)
        return f"Starts within {minutes} minutes. If we miss that, the surcharge drops from your receipt."
    return "In fair order with everybody else's films."


def _calculate(
    book: PriceBook, at: datetime, membership: str, resolution: str, service_tier: str, seconds: int
) -> dict[str, Any]:
    """Return the price of a film as the calculator shows it. Raises AppError for what the book does not sell."""
    model = next((each.id for each in load_catalog(get_settings().catalog_dir).values() if each.enabled), "any")
    usage = Usage(
        RateKey(model, resolution or "720P"),
        seconds=Fraction(seconds),
        service_tier=service_tier or "standard",
    )
    try:
        found = price(book, usage, Customer(membership), at)
    except PriceError as error:
        raise AppError("invalid_request", error.message) from error
    return {
        "currency": found.currency,
        "total": found.total.text,
        "list_total": found.list_total.text,
        "is_less": found.total < found.list_total,
        "lines": [{"label": line.label, "amount": line.amount.text} for line in found.lines],
    }
