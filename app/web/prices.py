"""The public price page: the price book in force as a table, and a calculator that uses the charging function."""

from datetime import datetime, timedelta
from fractions import Fraction
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.orm import Session

from app.accounts.memberships import FREE
from app.catalog.models import load_catalog
from app.clock import now
from app.errors import AppError
from app.jobs.model_terms import on_sale
from app.prices.find import book_at
from app.settings import get_settings
from app.web.auth import MaybeVisitor, SessionDep
from app.web.formats import minor, money
from app.web.language import gettext, language, title_text
from app.web.render import is_htmx, page
from pricing.book import PriceBook, PriceError
from pricing.labels import pattern_label
from pricing.money import round_to_minor
from pricing.price import per_second, price
from pricing.rate_key import RESOLUTIONS, RateKey
from pricing.usage import Customer, Usage

router = APIRouter(include_in_schema=False)

SECONDS_MAX = 600

ShortText = Annotated[str, Query(max_length=64)]


@router.get("/prices")
def show_prices(
    request: Request,
    session: SessionDep,
    visitor: MaybeVisitor,
    membership: ShortText = "",
    resolution: ShortText = "720P",
    service_tier: ShortText = "standard",
    seconds: Annotated[int, Query(ge=1, le=SECONDS_MAX)] = 10,
) -> Response:
    """Show the prices and the calculator; an htmx request gets only the calculator's result."""
    moment = now(session)
    book = book_at(session, moment).book
    membership_id = membership if membership in book.memberships else _default_membership(book)
    answer = _calculate(book, moment, membership_id, resolution, service_tier, seconds)
    selection = {
        "membership": membership_id,
        "resolution": resolution,
        "service_tier": service_tier,
        "seconds": seconds,
    }
    if is_htmx(request):
        return page(request, "prices/answer.html", answer=answer)
    return page(
        request, "prices/prices.html", **price_context(session, book, moment), selection=selection, answer=answer
    )


def _default_membership(book: PriceBook) -> str:
    """Return the calculator's initial membership: the first that pays less than the list price."""
    return next((each.id for each in book.memberships.values() if each.factor < 1), "free")


def price_context(session: Session, book: PriceBook, moment: datetime) -> dict[str, Any]:
    """Return what the price page and the landing page say of a book: memberships, promotions, tiers, special rates."""
    models = on_sale(session, load_catalog(get_settings().catalog_dir).values())
    general = next((each.id for each in models if each.family != "synthetic"), "any")
    resolutions = [each for each in RESOLUTIONS if _price_per_second(book, general, each, "free", moment) is not None]
    return {
        "title": gettext("Prices"),
        "currency": book.currency,
        "book": {"title": title_text(book.title), "name": book.name, "tax": f"{(book.tax_rate * 100).normalize():f}"},
        "resolutions": resolutions,
        "rows": [
            {
                "id": each.id,
                "title": title_text(each.title),
                "factor": f"{each.factor.normalize():f}",
                "prices": [_cell(book, general, name, each.id, moment) for name in resolutions],
                "concurrency": each.concurrency,
                "queue_limit": each.queue_limit,
                "storage_gib": each.storage_bytes // 2**30,
                "is_free": each.id == FREE,
                "retention_days": each.retention_days,
                "free_seconds": f"{each.free_seconds_per_month}",
            }
            # The dearest price per second first: what each further membership saves can be read downwards.
            for each in sorted(book.memberships.values(), key=lambda each: -_own_price(book, general, each.id, moment))
        ],
        "promotions": [
            {
                "title": title_text(each.title),
                "factor": f"{each.factor.normalize():f}",
                "ends_at": each.window.ends_at and each.window.ends_at - timedelta(seconds=1),
            }
            for each in book.promotions_at(moment)
        ],
        "tiers": [
            {
                "id": each.id,
                "title": title_text(each.title),
                "factor": f"{each.factor.normalize():f}",
                "description": _tier_text(each),
            }
            for each in book.service_tiers.values()
        ],
        "special": _special_rates(book),
        "examples": [{"name": each.name, "total": money(each.total.text, book.currency)} for each in book.examples],
        "seconds_max": SECONDS_MAX,
    }


def _cell(book: PriceBook, model: str, resolution: str, membership: str, at: datetime) -> dict[str, Any]:
    listed = _price_per_second(book, model, resolution, membership, at, listed=True)
    own = _price_per_second(book, model, resolution, membership, at)
    return {
        "list": None if listed is None else _rounded(listed, book.currency),
        "own": None if own is None else _rounded(own, book.currency),
        "is_less": own is not None and listed is not None and own < listed,
    }


def _price_per_second(
    book: PriceBook, model: str, resolution: str, membership: str, at: datetime, *, listed: bool = False
) -> Fraction | None:
    """Return the exact price per second, or None where the book has no rate."""
    key = RateKey(model, resolution)
    try:
        if listed:
            return Fraction(book.rate_for(key).per_second)
        return per_second(book, Usage(key, Fraction(1)), Customer(membership), at)
    except PriceError:
        return None


def _own_price(book: PriceBook, model: str, membership: str, at: datetime) -> Fraction:
    """Return a membership's price per second at the first resolution that has one, or 0."""
    prices = (_price_per_second(book, model, each, membership, at) for each in RESOLUTIONS)
    return next((each for each in prices if each is not None), Fraction(0))


def _rounded(amount: Fraction, currency: str) -> str:
    """Return a price per second rounded for display; a film is priced as a whole and never from this."""
    return minor(round_to_minor(amount, currency).minor, currency)


def _special_rates(book: PriceBook) -> list[dict[str, Any]]:
    """Return the rates that apply to a particular model, mode or sound setting only."""
    return [
        {
            "model": _model_title(rate.pattern.model),
            "films": pattern_label(rate.pattern),
            "per_second": money(rate.per_second, book.currency),
        }
        for rate in book.rates
        if rate.pattern.is_special
    ]


def _model_title(pattern: str) -> str:
    """Return the name of the models that a rate's pattern selects; empty for all."""
    if pattern == "*":
        return ""
    catalog = load_catalog(get_settings().catalog_dir)
    if pattern in catalog:
        return catalog[pattern].name
    return gettext("Turbo models") if pattern == "*-turbo" else pattern


def _tier_text(tier: Any) -> str:
    if tier.deadline is not None:
        hours = int(tier.deadline.total_seconds() // 3600)
        return gettext(
            "Runs on idle capacity. Expires free of charge if it has not started within %(hours)s hours.", hours=hours
        )
    if tier.start_within is not None:
        minutes = int(tier.start_within.total_seconds() // 60)
        return gettext("Starts within %(minutes)s minutes, or you pay the standard price.", minutes=minutes)
    return gettext("Normal queue.")


def _calculate(
    book: PriceBook, at: datetime, membership: str, resolution: str, service_tier: str, seconds: int
) -> dict[str, Any]:
    """Return the price of a film for the calculator. Raises AppError `invalid_request` where the book has no rate."""
    model = next((each.id for each in load_catalog(get_settings().catalog_dir).values() if each.enabled), "any")
    usage = Usage(
        RateKey(model, resolution or "720P"),
        seconds=Fraction(seconds),
        service_tier=service_tier or "standard",
    )
    try:
        film_price = price(book, usage, Customer(membership), at)
    except PriceError as error:
        raise AppError("invalid_request", error.message) from error
    return {
        "currency": film_price.currency,
        "total": film_price.total.text,
        "list_total": film_price.list_total.text,
        "is_less": film_price.total < film_price.list_total,
        "lines": [{"label": line.words(language()), "amount": line.amount.text} for line in film_price.lines],
    }
