"""A priced film: its Spec, its price, and all inputs of the price."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from fractions import Fraction
from typing import Any

from app.catalog.models import VideoModel
from app.jobs.deadlines import deadlines_of
from app.jobs.resolve import resolved_facts
from app.jobs.schemas import PriceOut, VideoRequest
from app.jobs.spec import Spec
from app.jobs.tables import Quote
from pricing.book import PriceBook
from pricing.money import Money
from pricing.price import Price, price
from pricing.rate_key import READING_MODES, RateKey
from pricing.rules import Membership
from pricing.usage import Customer, Usage
from pricing.window import moment_text

# Seeds are whole numbers below this one; those of further films begin again at 0.
SEEDS = 2**31


@dataclass(frozen=True)
class Priced:
    """A Spec with its price and all inputs of the price: one that is computed now, or the frozen one of a quote."""

    spec: Spec
    model: VideoModel
    book: PriceBook
    book_id: str
    usage: Usage
    customer: Customer
    at: datetime
    price: Price
    choice: str | None = None  # why `auto` selected this model
    alias: str | None = None  # under which the model was ordered
    quote: Quote | None = None

    @property
    def native_pixels(self) -> int:
        """Return the pixels of one frame as the model renders it, before scaling to the film's size."""
        width, height = self.model.native[self.spec.resolution][self.spec.ratio]
        return width * height

    @property
    def membership(self) -> Membership:
        """The membership of the price; its limits apply to the order."""
        return self.book.membership(self.customer.membership)

    @property
    def is_unreserved(self) -> bool:
        """Whether the price uses free seconds or promotions that are still to be reserved: a quote has reserved its."""
        return self.quote is None and bool(self.price.free_seconds_used or self.price.promotions)

    def inputs(self) -> dict[str, Any]:
        """Return the recorded inputs of the price, as plain values."""
        if self.quote is not None:
            return self.quote.pricing
        return {
            "book": self.book_id,
            "book_hash": self.book.content_hash,
            "usage": self.usage.content(),
            "customer": self.customer.content(),
            "at": moment_text(self.at),
            **({} if self.alias is None else {"model_alias": self.alias}),
        }

    def resolved(self) -> dict[str, Any]:
        """Return the resolved defaults and the seed, for an estimate or a quote."""
        facts = {**resolved_facts(self.spec, self.model), "seed": self.spec.seed}
        chosen = {"model_alias": self.alias, "model_chosen": self.choice}
        return facts | {name: value for name, value in chosen.items() if value is not None}

    def body(self) -> dict[str, Any]:
        """Return the API representation of the price."""
        if self.quote is not None:
            return {name: self.quote.body[name] for name in PriceOut.model_fields if name in self.quote.body}
        return price_out(self.price, self.book.name)

    def deadlines(self, expires_after: int | None = None) -> dict[str, int | None]:
        """Return the deadlines of an order that is accepted now, in Unix seconds."""
        return deadlines_of(self.book.tier(self.spec.service_tier), self.at, expires_after).as_unix()


def usage_of(spec: Spec) -> Usage:
    """Return the usage of a Spec in the terms of the price book: the seconds of new output, and those of input."""
    return Usage(
        RateKey(spec.model, spec.resolution, spec.mode, audio=spec.has_sound),
        seconds=Fraction(spec.billed_frames(), spec.fps),
        input_seconds=Fraction(spec.video_seconds) if spec.mode in READING_MODES else Fraction(0),
        service_tier=spec.service_tier,
    )


def price_out(amount: Price, book_name: str) -> dict[str, Any]:
    """Return the API representation of a price, the values of a PriceOut."""
    return {
        "currency": amount.currency,
        "list_total": amount.list_total.text,
        "total": amount.total.text,
        "lines": [{"label": line.label, "rule": line.rule, "amount": line.amount.text} for line in amount.lines],
        "book": book_name,
    }


def seeds_of(request: VideoRequest, first: int) -> tuple[int, ...]:
    """Return the seeds of the films of an order: those it lists, or `first` and the numbers after it."""
    return tuple(request.seeds or ((first + index) % SEEDS for index in range(request.films)))


def price_films(first: Priced, request: VideoRequest) -> tuple[Priced, ...]:
    """Return the films of an order, each priced as if those before it had been ordered already.

    So the free seconds and the promotions that one film uses are not left for the next one. Raises PriceError.
    """
    films = [first]
    for seed in seeds_of(request, first.spec.seed)[1:]:
        last = films[-1]
        customer = customer_after(last.customer, last.price)
        amount = price(first.book, first.usage, customer, first.at)
        spec = first.spec.model_copy(update={"seed": seed})
        films.append(replace(first, spec=spec, customer=customer, price=amount))
    return tuple(films)


def customer_after(customer: Customer, used: Price) -> Customer:
    """Return a customer with what is left once a price has used its free seconds and promotions."""
    left = customer.promotions_left
    if left is not None:
        left = {
            name: minor if minor is None else max(0, minor - used.promotions.get(name, 0))
            for name, minor in left.items()
        }
    return replace(customer, free_seconds=customer.free_seconds - used.free_seconds_used, promotions_left=left)


def whole_price(films: Sequence[Priced]) -> dict[str, Any]:
    """Return the price of the films of an order together, the values of a PriceOut.

    A line is the sum of the films that have it, and its label says of how many.
    """
    if len(films) == 1:
        return films[0].body()
    lines: dict[tuple[str, str], list[Money]] = {}
    for line in (line for film in films for line in film.price.lines):
        lines.setdefault((line.label, line.rule), []).append(line.amount)
    return {
        "currency": films[0].price.currency,
        "list_total": total_of(films, is_list=True).text,
        "total": total_of(films).text,
        "lines": [
            {
                "label": label if len(amounts) == 1 else f"{len(amounts)} films, each {label}",
                "rule": rule,
                "amount": Money(sum(amount.minor for amount in amounts), amounts[0].currency).text,
            }
            for (label, rule), amounts in lines.items()
        ],
        "book": films[0].book.name,
    }


def total_of(films: Sequence[Priced], *, is_list: bool = False) -> Money:
    """Return what the films of an order cost together, or what they would at list price."""
    amounts = [film.price.list_total if is_list else film.price.total for film in films]
    return Money(sum(amount.minor for amount in amounts), amounts[0].currency)


def whole_resolved(films: Sequence[Priced]) -> dict[str, Any]:
    """Return the resolved defaults of an order; those of several films have their seeds."""
    facts = films[0].resolved()
    return facts if len(films) == 1 else {**facts, "n": len(films), "seeds": [film.spec.seed for film in films]}
