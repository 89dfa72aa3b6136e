"""Prices before an order: an estimate binds nobody, a quote binds for some minutes and is redeemed once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.accounts.caller import Caller
from app.catalog.models import VideoModel, load_catalog
from app.clock import now
from app.db import new_id
from app.errors import AppError
from app.jobs.adaptive_ratio import with_ratio
from app.jobs.capability import check_memory
from app.jobs.deadlines import deadlines_of
from app.jobs.model_terms import check_terms
from app.jobs.order_facts import OrderFacts
from app.jobs.order_warnings import OrderWarning, with_order_warnings
from app.jobs.price_terms import read_price_terms
from app.jobs.resolve import AUTO, candidates, resolve, resolved_facts
from app.jobs.schemas import PriceOut, QuoteOut, VideoRequest, unix
from app.jobs.spec import Spec
from app.jobs.states import QuoteState
from app.jobs.tables import Quote
from app.prices.find import recorded_book
from app.prices.reservations import ReservationConflict, reserve
from app.settings import get_settings
from pricing.book import PriceBook, PriceError
from pricing.money import Money
from pricing.price import Price, price
from pricing.rate_key import READING_MODES, Mode, RateKey
from pricing.rules import Membership
from pricing.usage import Customer, Usage
from pricing.window import moment_text

# Maximum tries to price an order while others reserve free seconds or promotion budgets concurrently.
PRICE_RETRIES_MAX = 3
# Fields of an order that are not part of its Spec. A quote stores them for APIs where the order is not repeated.
ORDER_FIELDS = {"project", "metadata", "callback_url", "expires_after", "max_price"}


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
        }

    def resolved(self) -> dict[str, Any]:
        """Return the resolved defaults and the seed, for an estimate or a quote."""
        facts = {**resolved_facts(self.spec, self.model), "seed": self.spec.seed}
        return facts if self.choice is None else {**facts, "model_chosen": self.choice}

    def body(self) -> dict[str, Any]:
        """Return the API representation of the price."""
        if self.quote is not None:
            return {name: self.quote.body[name] for name in PriceOut.model_fields if name in self.quote.body}
        return price_out(self.price, self.book.name)

    def deadlines(self, expires_after: int | None = None) -> dict[str, int | None]:
        """Return the deadlines of an order that is accepted now, in Unix seconds."""
        return deadlines_of(self.book.tier(self.spec.service_tier), self.at, expires_after).as_unix()


def quoted_price(session: Session, quote: Quote) -> Priced:
    """Return the price that a quote has frozen. Its totals are the quote's, whatever a later release computes."""
    spec, inputs = Spec.model_validate(quote.spec), quote.pricing
    book = recorded_book(session, str(inputs["book"]), str(inputs["book_hash"]))
    usage, customer = Usage.from_content(inputs["usage"]), Customer.from_content(inputs["customer"])
    at = datetime.fromisoformat(str(inputs["at"]))
    total, list_total = Money(quote.total, quote.currency), Money(int(quote.body["list_minor"]), quote.currency)
    amount = replace(price(book, usage, customer, at), total=total, list_total=list_total)
    model = load_catalog(get_settings().catalog_dir)[spec.model]
    return Priced(spec, model, book, str(inputs["book"]), usage, customer, at, amount, quote=quote)


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


def price_spec(
    session: Session, caller: Caller, spec: Spec, model: VideoModel, *, facts: OrderFacts | None = None
) -> Priced:
    """Price a Spec for the caller's account now, by the `facts` of its order where they are read already.

    Raises AppError `no_rate` when the book has no rate for it.
    """
    if not spec.billed_frames():
        raise AppError(
            "invalid_request", "Every shot of this film is reused; there is nothing to render.", field="shots"
        )
    terms = read_price_terms(session, caller.account_id) if facts is None else facts.price_terms(session)
    usage = usage_of(spec)
    try:
        amount = price(terms.book, usage, terms.customer, terms.at)
    except PriceError as error:
        raise _app_error(error, terms.book) from error
    return Priced(spec, model, terms.book, terms.book_id, usage, terms.customer, terms.at, amount)


def _app_error(error: PriceError, book: PriceBook) -> AppError:
    if error.code == "unknown_service_tier":
        allowed = sorted(book.service_tiers)
        return AppError("invalid_request", error.message, field="service_tier", allowed=allowed)
    return AppError("no_rate", error.message, field="model", **error.facts)


def estimate(
    session: Session,
    caller: Caller,
    request: VideoRequest,
    *,
    seed: int | None = None,
    mode: Mode | None = None,
    facts: OrderFacts | None = None,
) -> Priced:
    """Resolve and price a request; nothing is stored or reserved.

    For `model: "auto"` every enabled model that can make it is priced and the cheapest selected; of equal prices the
    one with the most native pixels at the requested size, then the catalogue's order. `facts` are those of its order
    where they are read already. Raises AppError as `check_terms`, `resolve`, `check_memory` and `price_spec` do; for
    `auto`, the refusal of the first model when none can make it.
    """
    accepted = None if facts is None else facts.accepted_terms
    request = with_ratio(session, caller, request)
    priced, refusals = [], []
    for model in candidates(request, mode):
        try:
            check_terms(session, model, accepted=accepted)
            spec = resolve(session, caller, request, model, seed=seed, mode=mode)
            check_memory(session, caller, spec, model)
            priced.append(price_spec(session, caller, spec, model, facts=facts))
        except AppError as refusal:
            refusals.append(refusal)
    if not priced:
        raise refusals[0]
    best = min(priced, key=lambda each: (each.price.total.minor, -each.native_pixels))
    return replace(best, choice=_choice_reason(best, priced)) if request.model == AUTO else best


def _choice_reason(best: Priced, able: list[Priced]) -> str:
    """Explain why `auto` selected a model, with the price of each model that could make the film."""
    others = [each for each in able if each is not best]
    if not others:
        return "the only enabled model that can make this"
    prices = ", ".join(f"{each.model.id} {each.price.total.text}" for each in others)
    equal = any(each.price.total.minor == best.price.total.minor for each in others)
    rule = "the cheapest, and of equal prices the one of most native pixels" if equal else "the cheapest"
    lossy = "; it trades exactness for speed" if best.model.switches.lossy else ""
    return f"{rule}, at {best.price.total.text} {best.price.currency}; others: {prices}{lossy}"


def price_and_reserve(session: Session, caller: Caller, owner: str, make: Callable[[], Priced]) -> Priced:
    """Price with `make` and reserve its free seconds and promotions for `owner`, a quote or job, unless `caller.test`.

    Prices again when another quote reserved them meanwhile. Raises AppError as `make`, and `conflict` after all tries.
    """
    for retries_left in reversed(range(PRICE_RETRIES_MAX)):
        priced = make()
        try:
            reserve_price(session, caller, owner, priced)
        except ReservationConflict:
            if not retries_left:
                raise
        else:
            return priced
    raise AssertionError("the last pricing returns or raises")


def reserve_price(session: Session, caller: Caller, owner: str, priced: Priced) -> None:
    """Reserve what a price uses for `owner`, unless `caller.test`. Raises ReservationConflict: price again."""
    if not caller.test:
        uses = priced.price
        reserve(session, caller.account_id, owner, free_seconds=uses.free_seconds_used, promotions=uses.promotions)


def make_quote(session: Session, caller: Caller, request: VideoRequest, *, mode: Mode | None = None) -> Quote:
    """Price a request and bind the price: free seconds and promotion budgets are reserved until it expires.

    Raises AppError `too_many_quotes` when the account has reached its limit of open quotes.
    """
    # One quote of an account at a time, so that two requests cannot both create the last quote allowed.
    session.execute(select(func.pg_advisory_xact_lock(func.hashtext(f"quote:{caller.account_id}"))))
    # The scheduler expires quotes, one per transaction: to release several reservations and make a new one in one
    # transaction would lock the counters in no fixed order and deadlock with settlements.
    open_count = select(func.count()).where(
        Quote.account_id == caller.account_id, Quote.state == QuoteState.OPEN, Quote.expires_at > now(session)
    )
    open_quotes, limit = session.scalar(open_count), get_settings().quotes_open_max
    if (open_quotes or 0) >= limit:
        message = f"The account has {open_quotes} open quotes; redeem one or let one expire."
        raise AppError("too_many_quotes", message, allowed=limit)
    quote_id = new_id("quote")
    priced = price_and_reserve(session, caller, quote_id, lambda: estimate(session, caller, request, mode=mode))
    quote = Quote(
        id=quote_id,
        account_id=caller.account_id,
        project_id=caller.project_id,
        test=caller.test,
        state=QuoteState.OPEN,
        spec=priced.spec.model_dump(mode="json"),
        spec_hash=priced.spec.fingerprint(),
        pricing=priced.inputs(),
        total=priced.price.total.minor,
        currency=priced.price.currency,
        body={
            **priced.body(),
            **priced.deadlines(request.expires_after),
            "list_minor": priced.price.list_total.minor,
            "resolved": priced.resolved(),
            "beside": request.model_dump(mode="json", include=ORDER_FIELDS, exclude_defaults=True),
        },
        created_at=priced.at,
        expires_at=priced.at + timedelta(seconds=get_settings().quote_seconds),
    )
    session.add(quote)
    session.flush()
    return quote


def show_quote(quote: Quote, warnings: Sequence[OrderWarning] = ()) -> QuoteOut:
    """Return the API representation of a quote, with what its caller should know."""
    fields = {name: quote.body.get(name) for name in (*PriceOut.model_fields, "start_by", "not_after")}
    fields["resolved"] = with_order_warnings(quote.body["resolved"], warnings)
    return QuoteOut.model_validate({**fields, "id": quote.id, "expires_at": unix(quote.expires_at)})
