"""Prices before work: an estimate promises nothing, a quote binds for some minutes and is redeemed once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.accounts.caller import Caller
from app.accounts.memberships import membership_at
from app.catalog.models import VideoModel, load_catalog
from app.clock import now
from app.db import new_id
from app.errors import AppError, not_found
from app.jobs.capability import check_memory
from app.jobs.deadlines import deadlines_of
from app.jobs.resolve import AUTO, candidates, resolve, resolved_facts
from app.jobs.schemas import PriceLine, PriceOut, QuoteOut, VideoRequest, unix
from app.jobs.spec import Spec
from app.jobs.tables import Quote
from app.prices.find import StoredBook, book_at, contract_at
from app.prices.reservations import Allowance, ReservationConflict, allowance, release_reservation, reserve
from app.settings import get_settings
from pricing.book import PriceBook, PriceError
from pricing.price import Price, price
from pricing.rate_key import READING_MODES, Mode, RateKey
from pricing.usage import Customer, Usage
from pricing.window import moment_text

# How often a price is made again when others take free seconds or promotion budgets at the same moment.
PRICINGS_MAX = 3
# What an order says beside its Spec. A quote keeps it for doors where the order itself is not repeated.
BESIDE_SPEC = {"project", "metadata", "callback_url", "expires_after", "max_price"}


@dataclass(frozen=True)
class Priced:
    """A Spec with its price and with the inputs that the price is a pure function of."""

    spec: Spec
    model: VideoModel
    book: PriceBook
    book_id: str
    usage: Usage
    customer: Customer
    at: datetime
    price: Price
    choice: str | None = None  # why `auto` took this model

    @property
    def native_pixels(self) -> int:
        """Return the pixels of one frame as the model renders it, before the film's size is made of it."""
        width, height = self.model.native[self.spec.resolution][self.spec.ratio]
        return width * height

    def inputs(self) -> dict[str, Any]:
        """Return the recorded inputs of the price, as plain values."""
        return {
            "book": self.book_id,
            "book_hash": self.book.content_hash,
            "usage": self.usage.content(),
            "customer": self.customer.content(),
            "at": moment_text(self.at),
        }

    def resolved(self) -> dict[str, Any]:
        """Return what was decided for the caller, the seed too, for an estimate or a quote."""
        facts = {**resolved_facts(self.spec, self.model), "seed": self.spec.seed}
        return facts if self.choice is None else {**facts, "model_chosen": self.choice}

    def body(self) -> dict[str, Any]:
        """Return the price as it is shown."""
        return price_out(self.price, self.book.name).model_dump()

    def promised(self, expires_after: int | None = None) -> dict[str, int | None]:
        """Return what the service tier promises to an order that is accepted now, in Unix seconds."""
        return deadlines_of(self.book.tier(self.spec.service_tier), self.at, expires_after).shown()


def usage_of(spec: Spec) -> Usage:
    """Return what a Spec uses, in the terms of the price book: the seconds that are newly made, and those read."""
    return Usage(
        RateKey(spec.model, spec.resolution, spec.mode, audio=spec.audio is not None),
        seconds=Fraction(spec.billed_frames(), spec.fps),
        input_seconds=Fraction(spec.video_seconds) if spec.mode in READING_MODES else Fraction(0),
        service_tier=spec.service_tier,
    )


def price_out(amount: Price, book_name: str) -> PriceOut:
    """Return a price as the doors show it."""
    return PriceOut(
        currency=amount.currency,
        list_total=amount.list_total.text,
        total=amount.total.text,
        lines=[PriceLine(label=line.label, rule=line.rule, amount=line.amount.text) for line in amount.lines],
        book=book_name,
    )


def price_spec(session: Session, caller: Caller, spec: Spec, model: VideoModel) -> Priced:
    """Price a Spec for the caller's account at this moment. Raises AppError `no_rate` where the book has none."""
    if not spec.billed_frames():
        raise AppError("invalid_request", "Every shot of this film is reused; there is nothing to make.", field="shots")
    moment = now(session)
    stored: StoredBook = book_at(session, moment)
    membership = stored.book.known_membership(membership_at(session, caller.account_id, moment))
    left: Allowance = allowance(session, caller.account_id, stored.book, membership, moment)
    customer = Customer(
        membership=membership,
        contract=contract_at(session, caller.account_id, moment),
        free_seconds=left.free_seconds,
        promotions_left=left.promotions,
    )
    usage = usage_of(spec)
    try:
        amount = price(stored.book, usage, customer, moment)
    except PriceError as error:
        raise _refusal(error, stored.book) from error
    return Priced(spec, model, stored.book, stored.id, usage, customer, moment, amount)


def _refusal(error: PriceError, book: PriceBook) -> AppError:
    if error.code == "unknown_service_tier":
        allowed = sorted(book.service_tiers)
        return AppError("invalid_request", error.message, field="service_tier", allowed=allowed)
    return AppError("no_rate", error.message, field="model", **error.facts)


def estimate(
    session: Session, caller: Caller, request: VideoRequest, *, seed: int | None = None, mode: Mode | None = None
) -> Priced:
    """Resolve and price a request; nothing is stored and nothing promised.

    For `model: "auto"` every enabled model that can make it is priced and the cheapest taken; of equal prices the one
    with the most pixels of its own at the asked size, then the catalogue's order. Raises AppError as `resolve`,
    `check_memory` and `price_spec` do; for `auto`, what the first model was refused for where none can make it.
    """
    priced, refusals = [], []
    for model in candidates(request, mode):
        try:
            spec = resolve(session, caller, request, model, seed=seed, mode=mode)
            check_memory(session, caller, spec, model)
            priced.append(price_spec(session, caller, spec, model))
        except AppError as refusal:
            refusals.append(refusal)
    if not priced:
        raise refusals[0]
    best = min(priced, key=lambda each: (each.price.total.minor, -each.native_pixels))
    return replace(best, choice=_why(best, priced)) if request.model == AUTO else best


def _why(best: Priced, able: list[Priced]) -> str:
    """Say why `auto` took a model, with the price of each that could have made the film."""
    others = [each for each in able if each is not best]
    if not others:
        return "the only enabled model that can make this"
    told = ", ".join(f"{each.model.id} {each.price.total.text}" for each in others)
    equal = any(each.price.total.minor == best.price.total.minor for each in others)
    rule = "the cheapest, and of equal prices the one of most native pixels" if equal else "the cheapest"
    lossy = "; it trades exactness for speed" if best.model.switches.lossy else ""
    return f"{rule}, at {best.price.total.text} {best.price.currency}; others: {told}{lossy}"


def price_and_reserve(session: Session, caller: Caller, owner: str, make: Callable[[], Priced]) -> Priced:
    """Price with `make` and set aside what the price uses for `owner`, the quote or the job without one.

    Where another quote took it between the two, the price is made again with what is left then. A test key's price
    shows what it would be, and uses nothing up.

    Raises AppError as `make` does, and `conflict` where others were faster every time.
    """
    for others_left in reversed(range(PRICINGS_MAX)):
        priced = make()
        if caller.test:
            return priced
        try:
            reserve(
                session,
                caller.account_id,
                owner,
                free_seconds=priced.price.free_seconds_used,
                promotions=priced.price.promotions,
            )
        except ReservationConflict:
            if not others_left:
                raise
        else:
            return priced
    raise AssertionError("the last pricing returns or raises")


def make_quote(session: Session, caller: Caller, request: VideoRequest, *, mode: Mode | None = None) -> Quote:
    """Price a request and bind the price: free seconds and promotion budgets are reserved until it expires.

    Raises AppError `too_many_quotes` when the account already has as many open quotes as it may.
    """
    # One quote of an account at a time, so that two cannot both be the last that it may have open.
    session.execute(select(func.pg_advisory_xact_lock(func.hashtext(f"quote:{caller.account_id}"))))
    # Those that have outlived their time are expired by the sweeper, one in each transaction: to give back what several
    # had set aside and to reserve anew in one would take the counters' locks in no order, against settlements.
    mine = select(func.count()).where(
        Quote.account_id == caller.account_id, Quote.state == "open", Quote.expires_at > now(session)
    )
    open_quotes, limit = session.scalar(mine), get_settings().quotes_open_max
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
        state="open",
        spec=priced.spec.model_dump(mode="json"),
        spec_hash=priced.spec.fingerprint(),
        pricing=priced.inputs(),
        total=priced.price.total.minor,
        currency=priced.price.currency,
        body={
            **priced.body(),
            **priced.promised(request.expires_after),
            "list_minor": priced.price.list_total.minor,
            "resolved": priced.resolved(),
            "beside": request.model_dump(mode="json", include=BESIDE_SPEC, exclude_defaults=True),
        },
        created_at=priced.at,
        expires_at=priced.at + timedelta(seconds=get_settings().quote_seconds),
    )
    session.add(quote)
    session.flush()
    return quote


def find_quote(session: Session, caller: Caller, quote_id: str, *, lock: bool = False) -> Quote:
    """Return the caller's quote. Raises AppError `not_found`, which reads the same for another tenant's."""
    quote = session.get(Quote, quote_id, with_for_update=lock)
    # A test key's quote has set nothing aside, so it is none to a live key; and a project's key sees its own only.
    if quote is None or quote.account_id != caller.account_id or quote.test != caller.test:
        raise not_found("quote", quote_id)
    if caller.project_id is not None and quote.project_id != caller.project_id:
        raise not_found("quote", quote_id)
    return quote


def redeem(
    session: Session, caller: Caller, quote_id: str, request: VideoRequest, job_id: str, *, spec: Spec | None = None
) -> Quote:
    """Redeem an open quote for a job with the same body, or with the quote's own `spec` where no body is repeated.

    Raises AppError quote_expired, quote_used and quote_mismatch.
    """
    quote = find_quote(session, caller, quote_id, lock=True)
    if quote.state == "redeemed":
        raise AppError("quote_used", "The quote was redeemed before.", field="quote_id", job=quote.job_id)
    if quote.state == "expired" or quote.expires_at <= now(session):
        raise AppError("quote_expired", "The quote has expired; make a new one.", field="quote_id")
    agreed = Spec.model_validate(quote.spec)
    model = load_catalog(get_settings().catalog_dir)[agreed.model]
    if request.model not in (AUTO, agreed.model):
        raise AppError("quote_mismatch", f"The quote is for the model {agreed.model}.", field="model")
    asked = spec or resolve(session, caller, request, model, seed=agreed.seed, mode=agreed.mode)
    if asked.fingerprint() != quote.spec_hash:
        fields = [name for name, value in asked if getattr(agreed, name) != value]
        message = f"The quote was made for another request; what differs is {', '.join(fields)}."
        raise AppError("quote_mismatch", message, field=fields[0] if fields else "quote_id", differs=fields)
    quote.state, quote.job_id = "redeemed", job_id
    return quote


def quotes_past_expiry(session: Session, *, limit: int) -> Sequence[str]:
    """Return the ids of open quotes whose time has passed."""
    due = select(Quote.id).where(Quote.state == "open", Quote.expires_at <= now(session))
    return session.scalars(due.order_by(Quote.expires_at).limit(limit)).all()


def expire_quote(session: Session, quote_id: str) -> bool:
    """Expire an open quote whose time has passed and give back what it reserved; return whether this call did it."""
    expired = session.scalar(
        update(Quote)
        .where(Quote.id == quote_id, Quote.state == "open", Quote.expires_at <= now(session))
        .values(state="expired")
        .returning(Quote.id)
    )
    if expired is not None:
        release_reservation(session, quote_id)
    return expired is not None


def show_quote(quote: Quote) -> QuoteOut:
    """Return a quote as the doors show it."""
    shown = {name: quote.body.get(name) for name in (*PriceOut.model_fields, "start_by", "not_after", "resolved")}
    return QuoteOut.model_validate({**shown, "id": quote.id, "expires_at": unix(quote.expires_at)})
