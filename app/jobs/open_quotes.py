"""Quotes after they were made: found, redeemed once by an order, or expired."""

from collections.abc import Sequence

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.accounts.caller import Caller
from app.catalog.models import load_catalog
from app.clock import now
from app.errors import AppError, not_found
from app.jobs.declared_inputs import check_declared, with_likeness
from app.jobs.priced import Priced, seeds_of
from app.jobs.quote import quoted_price
from app.jobs.resolve import AUTO, resolve
from app.jobs.schemas import VideoRequest
from app.jobs.spec import Spec
from app.jobs.states import QuoteState
from app.jobs.tables import Quote
from app.prices.reservations import release_reservation
from app.settings import get_settings


def find_quote(session: Session, caller: Caller, quote_id: str, *, lock: bool = False) -> Quote:
    """Return the caller's quote. Raises AppError `not_found`, the same for another tenant's quote."""
    # A quote that was read before is read again under its lock.
    quote = session.get(Quote, quote_id, with_for_update=lock, populate_existing=lock)
    # A test key's quote has reserved nothing, so a live key cannot use it; a project's key sees only its own.
    # Further films of an order have quotes of their own, which are redeemed with the order's quote only.
    if (
        quote is None
        or quote.first_id is not None
        or quote.account_id != caller.account_id
        or quote.test != caller.test
    ):
        raise not_found("quote", quote_id)
    if caller.project_id is not None and quote.project_id != caller.project_id:
        raise not_found("quote", quote_id)
    return quote


def open_quotes(
    session: Session, caller: Caller, quote_id: str, request: VideoRequest, *, spec: Spec | None = None
) -> tuple[Priced, ...]:
    """Lock an open quote for an order with the same body, or with the quote's own `spec` when no body is repeated.

    Returns the price of each of its films; order_write.sql redeems them. Raises AppError `quote_expired`, `quote_used`,
    `quote_mismatch`, and as `check_declared` does.
    """
    quote = find_quote(session, caller, quote_id, lock=True)
    if quote.state == QuoteState.REDEEMED:
        raise AppError("quote_used", "The quote has already been redeemed.", field="quote_id", job=quote.job_id)
    if quote.state == QuoteState.EXPIRED or quote.expires_at <= now(session):
        raise _expired()
    first = quoted_price(session, quote)
    agreed = first.spec
    if request.model not in (AUTO, agreed.model, first.alias) and not _means(request.model, agreed.model):
        raise AppError("quote_mismatch", f"The quote is for the model {agreed.model}.", field="model")
    requested = spec or resolve(session, caller, request, first.model, seed=agreed.seed, mode=agreed.mode)
    # What is declared of the files may have changed since the quote.
    check_declared(session, caller.account, requested, request)
    requested = with_likeness(session, requested, request)
    # A quote has fixed the label too, by the policy of its moment.
    requested = requested.model_copy(update={"visible_label": agreed.visible_label})
    if requested.fingerprint() != quote.spec_hash:
        fields = [name for name, value in requested if getattr(agreed, name) != value]
        message = f"The quote is for a different request; these fields differ: {', '.join(fields)}."
        raise AppError("quote_mismatch", message, field=fields[0] if fields else "quote_id", differs=fields)
    films = (first, *_further_films(session, quote))
    seeds = tuple(film.spec.seed for film in films)
    if spec is None and seeds_of(request, agreed.seed) != seeds:
        message = f"The quote is for {len(seeds)} films, with the seeds {', '.join(map(str, seeds))}."
        raise AppError("quote_mismatch", message, field="seeds" if request.seeds else "n", allowed=len(seeds))
    return films


def _expired() -> AppError:
    return AppError("quote_expired", "The quote has expired; request a new one.", field="quote_id")


def _further_films(session: Session, quote: Quote) -> list[Priced]:
    """Lock the quotes of the further films that a quote covers, and return their prices, in the order of the films.

    Raises AppError `quote_expired` where one of them is not open.
    """
    if "whole" not in quote.body:
        return []
    mine = select(Quote).where(Quote.first_id == quote.id).order_by(Quote.id).with_for_update()
    further = session.scalars(mine.execution_options(populate_existing=True)).all()
    if any(each.state != QuoteState.OPEN for each in further):
        raise _expired()
    films = {film.spec.seed: film for film in (quoted_price(session, each) for each in further)}
    return [films[seed] for seed in quote.body["resolved"]["seeds"][1:]]


def _means(name: str, model_id: str) -> bool:
    """Return whether a name is an alias of this model now."""
    model = load_catalog(get_settings().catalog_dir).find(name)
    return model is not None and model.id == model_id


def quotes_past_expiry(session: Session, *, limit: int) -> Sequence[str]:
    """Return the ids of open quotes past their expiry; those of further films expire with the first one."""
    due = select(Quote.id).where(
        Quote.state == QuoteState.OPEN, Quote.expires_at <= now(session), Quote.first_id.is_(None)
    )
    return session.scalars(due.order_by(Quote.expires_at).limit(limit)).all()


def expire_quotes_of(session: Session, account_id: str) -> None:
    """Expire all open quotes of an account at once, and release their reservations."""
    # First ones before further ones, as an order and `expire_quote` lock them. All of them before what they reserve.
    mine = select(Quote.id).where(Quote.account_id == account_id, Quote.state == QuoteState.OPEN)
    ids = session.scalars(mine.order_by(Quote.first_id.is_not(None), Quote.id).with_for_update()).all()
    if ids:
        ended = {"state": QuoteState.EXPIRED, "expires_at": func.least(Quote.expires_at, now(session))}
        session.execute(update(Quote).where(Quote.id.in_(ids)).values(ended))
        release_reservation(session, *ids)


def expire_quote(session: Session, quote_id: str) -> bool:
    """Expire an open quote past its expiry and release its reservation; return whether this call did it.

    The quotes of its further films expire with it. An order locks the first one too (`open_quotes`), so it finds all of
    them open or none.
    """
    expired = session.scalar(
        update(Quote)
        .where(Quote.id == quote_id, Quote.state == QuoteState.OPEN, Quote.expires_at <= now(session))
        .values(state=QuoteState.EXPIRED)
        .returning(Quote.id)
    )
    if expired is None:
        return False
    further = session.scalars(
        update(Quote)
        .where(Quote.first_id == quote_id, Quote.state == QuoteState.OPEN)
        .values(state=QuoteState.EXPIRED)
        .returning(Quote.id)
    ).all()
    release_reservation(session, quote_id, *further)
    return True
