"""The enabled models: capabilities, limits, and the caller's price per second."""

from datetime import datetime
from fractions import Fraction
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from app.accounts.memberships import membership_at
from app.api.access import VideosCaller
from app.api.model_headers import announce_model
from app.catalog.models import VideoModel, load_catalog
from app.clock import now
from app.errors import AppError
from app.jobs.model_terms import on_sale
from app.jobs.schemas import unix
from app.prices.find import book_at, contract_at
from app.request_session import SessionDep
from app.settings import get_settings
from pricing.book import PriceBook, PriceError
from pricing.price import Price, price
from pricing.rate_key import RateKey
from pricing.usage import Customer, Usage

router = APIRouter(prefix="/v1/models", tags=["models"])


class ModelPrice(BaseModel):
    """The price of one second: list price and the caller's price. For display; a job is rounded once, as a whole."""

    resolution: str
    mode: str
    currency: str
    list_per_second: str
    per_second: str
    # With sound, where the model makes it.
    sound_list_per_second: str | None = None
    sound_per_second: str | None = None


class ModelOut(BaseModel):
    """A video model: capabilities, limits, the native size behind each output size, and prices."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "cinemeter"
    name: str
    note: str
    licence: str
    modes: list[str]
    last_frame: str
    sound: bool
    fps: int
    seconds_max: int
    shots_max: int
    aliases: list[str] = Field(description="Further names under which it is ordered.")
    deprecated_at: int | None = Field(None, description="From then on another model should be ordered.")
    retires_at: int | None = Field(None, description="From then on orders are refused; accepted ones are rendered.")
    replaced_by: str | None = Field(None, description="Id of the model to order instead.")
    sizes: dict[str, list[str]]
    native_sizes: dict[str, dict[str, str]]
    prices: list[ModelPrice]


class ModelPage(BaseModel):
    """All enabled models."""

    object: Literal["list"] = "list"
    data: list[ModelOut]


@router.get("")
def list_models(session: SessionDep, caller: VideosCaller) -> ModelPage:
    """List the enabled models with the caller's price per second."""
    models = on_sale(session, load_catalog(get_settings().catalog_dir).values())
    return ModelPage(data=[_show(session, caller, each) for each in models])


@router.get("/{model_id}")
def get_model(http: Request, session: SessionDep, caller: VideosCaller, model_id: str) -> ModelOut:
    """Return one enabled model, by its id or an alias, also after it has retired."""
    model = load_catalog(get_settings().catalog_dir).find(model_id)
    if model is None or not on_sale(session, [model], with_retired=True):
        raise AppError("not_found", "There is no model with this id.", noun="model", id=model_id)
    announce_model(http, model.id)
    return _show(session, caller, model)


def _show(session: SessionDep, caller: VideosCaller, model: VideoModel) -> ModelOut:
    facts: dict[str, Any] = {
        "sizes": {resolution: list(ratios) for resolution, ratios in model.native.items()},
        "native_sizes": {
            resolution: {ratio: f"{size[0]}x{size[1]}" for ratio, size in ratios.items()}
            for resolution, ratios in model.native.items()
        },
    }
    return ModelOut(
        id=model.id,
        name=model.name,
        note=model.note,
        licence=model.licence,
        modes=list(model.modes),
        last_frame=model.last_frame,
        sound=model.sound,
        fps=model.fps,
        seconds_max=model.film_seconds_max,
        shots_max=model.shots_max,
        aliases=load_catalog(get_settings().catalog_dir).aliases_of(model.id),
        deprecated_at=unix(model.deprecated_at),
        retires_at=unix(model.retires_at),
        replaced_by=model.replaced_by or None,
        prices=_prices(session, caller, model),
        **facts,
    )


def _prices(session: SessionDep, caller: VideosCaller, model: VideoModel) -> list[ModelPrice]:
    moment = now(session)
    book = book_at(session, moment).book
    customer = Customer(
        membership=book.known_membership(membership_at(session, caller.account_id, moment)),
        contract=contract_at(session, caller.account_id, moment),
    )
    prices = []
    for resolution in model.native:
        for mode in model.modes:
            silent = _second(book, RateKey(model.id, resolution, mode), customer, moment)
            sounding = _second(book, RateKey(model.id, resolution, mode, audio=True), customer, moment)
            if not model.sound:
                sounding = None
            shown = silent or sounding
            if shown is None:
                continue
            prices.append(
                ModelPrice(
                    resolution=resolution,
                    mode=mode,
                    currency=shown.currency,
                    list_per_second=shown.list_total.text,
                    per_second=shown.total.text,
                    sound_list_per_second=sounding.list_total.text if sounding else None,
                    sound_per_second=sounding.total.text if sounding else None,
                )
            )
    return prices


def _second(book: PriceBook, key: RateKey, customer: Customer, moment: datetime) -> Price | None:
    """Return the price of one second, or None where the book has no rate for it."""
    try:
        return price(book, Usage(key, Fraction(1)), customer, moment)
    except PriceError:
        return None
