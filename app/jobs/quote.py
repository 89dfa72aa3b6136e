"""Prices before an order: an estimate binds nobody, a quote binds for some minutes and is redeemed once."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.accounts.caller import Caller
from app.assets.owner import OwnerIds
from app.catalog.models import VideoModel, load_catalog
from app.clock import now
from app.db import new_id
from app.errors import AppError
from app.jobs.adaptive_ratio import with_ratio
from app.jobs.capability import check_gpu
from app.jobs.declared_inputs import check_declared, with_likeness
from app.jobs.file_retention import check_retention
from app.jobs.model_life import alias_of
from app.jobs.model_terms import check_terms
from app.jobs.order_facts import OrderFacts
from app.jobs.order_warnings import OrderWarning, with_order_warnings
from app.jobs.price_terms import PriceTerms, read_price_terms
from app.jobs.priced import Priced, price_films, total_of, usage_of, whole_price, whole_resolved
from app.jobs.rate_limits import check_films
from app.jobs.resolve import AUTO, candidates, resolve
from app.jobs.schemas import EstimateOut, PriceOut, QuoteOut, VideoRequest, unix
from app.jobs.spec import Spec
from app.jobs.states import QuoteState
from app.jobs.tables import Quote
from app.jobs.visible_label import labelled
from app.prices.find import recorded_book
from app.prices.reservations import PriceUse, ReservationConflict, reserve
from app.settings import get_settings
from pricing.book import PriceBook, PriceError
from pricing.money import Money
from pricing.price import price
from pricing.rate_key import Mode
from pricing.usage import Customer, Usage

# Maximum tries to price an order while others reserve free seconds or promotion budgets concurrently.
PRICE_RETRIES_MAX = 3
# Fields of an order that are not part of its Spec. A quote stores them for APIs where the order is not repeated.
ORDER_FIELDS = {"project", "metadata", "callback_url", "expires_after", "max_price", "retention", "n", "seeds"}


def quoted_price(session: Session, quote: Quote) -> Priced:
    """Return the price that a quote has frozen. Its totals are the quote's, whatever a later release computes."""
    spec, inputs = Spec.model_validate(quote.spec), quote.pricing
    book = recorded_book(session, str(inputs["book"]), str(inputs["book_hash"]))
    usage, customer = Usage.from_content(inputs["usage"]), Customer.from_content(inputs["customer"])
    at = datetime.fromisoformat(str(inputs["at"]))
    total, list_total = Money(quote.total, quote.currency), Money(int(quote.body["list_minor"]), quote.currency)
    amount = replace(price(book, usage, customer, at), total=total, list_total=list_total)
    model = load_catalog(get_settings().catalog_dir)[spec.model]
    alias = inputs.get("model_alias")
    return Priced(spec, model, book, str(inputs["book"]), usage, customer, at, amount, alias=alias, quote=quote)


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
    return price_by(
        read_price_terms(session, caller.account_id) if facts is None else facts.price_terms(session), spec, model
    )


def price_by(terms: PriceTerms, spec: Spec, model: VideoModel) -> Priced:
    """Price a Spec by these terms. Raises AppError `no_rate` when their book has no rate for it."""
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


def estimate(session: Session, caller: Caller, request: VideoRequest) -> Priced:
    """Resolve and price the first film of a request, as `estimate_films` does."""
    return estimate_films(session, caller, request)[0]


def estimate_films(
    session: Session,
    caller: Caller,
    request: VideoRequest,
    *,
    seed: int | None = None,
    mode: Mode | None = None,
    facts: OrderFacts | None = None,
) -> tuple[Priced, ...]:
    """Resolve and price a request, film by film; nothing is stored or reserved.

    For `model: "auto"` every enabled model that can make it is priced and the cheapest selected; of equal prices the
    one with the most native pixels at the requested size, then the catalogue's order. `facts` are those of its order
    where they are read already. Raises AppError as `check_terms`, `resolve`, `check_gpu` and `price_spec` do; for
    `auto`, the refusal of the first model when none can make it.
    """
    accepted = None if facts is None else facts.accepted_terms
    request = with_ratio(session, caller, request)

    def price_of(model: VideoModel) -> tuple[Priced, ...]:
        check_terms(session, model, accepted=accepted)
        spec = resolve(session, caller, request, model, seed=seed, mode=mode)
        check_declared(session, caller.account, spec, request)
        spec = labelled(with_likeness(session, spec, request), caller.account)
        check_gpu(session, caller, spec, model)
        return price_films(price_spec(session, caller, spec, model, facts=facts), request)

    priced = _price_each(candidates(request, now(session), mode), price_of)
    check_retention(request.retention, priced[0][0].membership)
    best = _cheapest(priced)
    if request.model != AUTO:
        alias = alias_of(request.model)
        return tuple(replace(film, alias=alias) for film in best)
    choice = _choice_reason(best, priced)
    return tuple(replace(film, choice=choice) for film in best)


def price_for_guest(session: Session, request: VideoRequest, terms: PriceTerms) -> Priced:
    """Resolve and price the film of a request by these terms as `estimate_films` does, for somebody without an account.

    The request names no asset. Raises AppError as `estimate_films` does.
    """
    guest = OwnerIds("guest")

    def price_of(model: VideoModel) -> tuple[Priced, ...]:
        check_terms(session, model)
        spec = resolve(session, guest, request, model, seed=0)
        check_gpu(session, guest, spec, model)
        return (price_by(terms, spec, model),)

    return _cheapest(_price_each(candidates(request, terms.at), price_of))[0]


def _price_each(
    models: Sequence[VideoModel], price_of: Callable[[VideoModel], tuple[Priced, ...]]
) -> list[tuple[Priced, ...]]:
    """Return the films of each model that can make them. Raises the AppError of the first model when none can."""
    priced, refusals = [], []
    for model in models:
        try:
            priced.append(price_of(model))
        except AppError as refusal:
            refusals.append(refusal)
    if not priced:
        raise refusals[0]
    return priced


def _cheapest(priced: Sequence[tuple[Priced, ...]]) -> tuple[Priced, ...]:
    """Return the films that `auto` selects: the cheapest, and of equal prices those of most native pixels."""
    return min(priced, key=lambda films: (total_of(films).minor, -films[0].native_pixels))


def _choice_reason(best: tuple[Priced, ...], able: list[tuple[Priced, ...]]) -> str:
    """Explain why `auto` selected a model, with the price of each model that could make the order."""
    others = [each for each in able if each is not best]
    if not others:
        return "the only enabled model that can make this"
    total = total_of(best)
    prices = ", ".join(f"{each[0].model.id} {total_of(each).text}" for each in others)
    equal = any(total_of(each).minor == total.minor for each in others)
    rule = "the cheapest, and of equal prices the one of most native pixels" if equal else "the cheapest"
    lossy = "; it trades exactness for speed" if best[0].model.switches.lossy else ""
    return f"{rule}, at {total.text} {total.currency}; others: {prices}{lossy}"


def show_estimate(films: Sequence[Priced], request: VideoRequest, warnings: Sequence[OrderWarning] = ()) -> EstimateOut:
    """Return the API representation of an estimate, with what its caller should know."""
    resolved = with_order_warnings(whole_resolved(films), warnings)
    return EstimateOut(**whole_price(films), **films[0].deadlines(request.expires_after), resolved=resolved)


def price_and_reserve(
    session: Session, caller: Caller, owners: Sequence[str], make: Callable[[], tuple[Priced, ...]]
) -> tuple[Priced, ...]:
    """Price films with `make` and reserve their free seconds and promotions, unless `caller.test`.

    `owners` are the quotes or jobs of the films, in their order. Prices again when another quote reserved them
    meanwhile. Raises AppError as `make`, and `conflict` after all tries.
    """
    for retries_left in reversed(range(PRICE_RETRIES_MAX)):
        films = make()
        if caller.test:
            return films
        try:
            reserve(session, caller.account_id, uses_of(owners, films))
        except ReservationConflict:
            if not retries_left:
                raise
        else:
            return films
    raise AssertionError("the last pricing returns or raises")


def uses_of(owners: Sequence[str], films: Sequence[Priced]) -> dict[str, PriceUse]:
    """Return what the prices of films use, by their quotes or jobs."""
    return {
        owner: PriceUse(film.price.free_seconds_used, film.price.promotions)
        for owner, film in zip(owners, films, strict=True)
    }


def make_quote(session: Session, caller: Caller, request: VideoRequest, *, mode: Mode | None = None) -> Quote:
    """Price a request and bind the price: free seconds and promotion budgets are reserved until it expires.

    Raises AppError `too_many_quotes` when the account would have more films in open quotes than its limit, and
    `invalid_request` as `check_films` does.
    """
    check_films(session, caller, request.films)
    # One quote of an account at a time, so that two requests cannot both create the last quote allowed.
    session.execute(select(func.pg_advisory_xact_lock(func.hashtext(f"quote:{caller.account_id}"))))
    # The scheduler expires quotes, one per transaction: to release several reservations and make a new one in one
    # transaction would lock the counters in no fixed order and deadlock with settlements.
    open_count = select(func.count()).where(
        Quote.account_id == caller.account_id,
        Quote.state == QuoteState.OPEN,
        Quote.expires_at > now(session),
    )
    open_films, limit = session.scalar(open_count) or 0, get_settings().quotes_open_max
    if open_films + request.films > limit:
        message = f"The account has open quotes for {open_films} films of {limit}; redeem one or let one expire."
        raise AppError("too_many_quotes", message, allowed=limit)
    ids = [new_id("quote") for _ in range(request.films)]
    films = price_and_reserve(session, caller, ids, lambda: estimate_films(session, caller, request, mode=mode))
    quotes = [_quote(caller, quote_id, film, request) for quote_id, film in zip(ids, films, strict=True)]
    first = quotes[0]
    if len(quotes) > 1:
        first.body = {**first.body, "whole": whole_price(films), "resolved": whole_resolved(films)}
        for further in quotes[1:]:
            further.first_id = first.id
    session.add_all(quotes)
    session.flush()
    return first


def _quote(caller: Caller, quote_id: str, film: Priced, request: VideoRequest) -> Quote:
    """Return the quote of one film."""
    return Quote(
        id=quote_id,
        account_id=caller.account_id,
        project_id=caller.project_id,
        test=caller.test,
        state=QuoteState.OPEN,
        spec=film.spec.model_dump(mode="json"),
        spec_hash=film.spec.fingerprint(),
        pricing=film.inputs(),
        total=film.price.total.minor,
        currency=film.price.currency,
        body={
            **film.body(),
            **film.deadlines(request.expires_after),
            "list_minor": film.price.list_total.minor,
            "resolved": film.resolved(),
            "beside": request.model_dump(mode="json", include=ORDER_FIELDS, exclude_defaults=True),
        },
        created_at=film.at,
        expires_at=_quote_end(film),
    )


def quoted_total(quote: Quote) -> Money:
    """Return what a quote costs in all, with the further films that it covers."""
    whole = quote.body.get("whole")
    return Money(quote.total, quote.currency) if whole is None else Money.parse(whole["total"], quote.currency)


def _quote_end(priced: Priced) -> datetime:
    """Return when a quote of this price expires: before its model retires."""
    end = priced.at + timedelta(seconds=get_settings().quote_seconds)
    return end if priced.model.retires_at is None else min(end, priced.model.retires_at)


def show_quote(quote: Quote, warnings: Sequence[OrderWarning] = ()) -> QuoteOut:
    """Return the API representation of a quote, with what its caller should know."""
    fields = {name: quote.body.get("whole", quote.body).get(name) for name in PriceOut.model_fields}
    fields |= {"start_by": quote.body.get("start_by"), "not_after": quote.body.get("not_after")}
    fields["resolved"] = with_order_warnings(quote.body["resolved"], warnings)
    return QuoteOut.model_validate({**fields, "id": quote.id, "expires_at": unix(quote.expires_at)})
