"""The films of the landing page, each at its present price: those that operators chose, else the shipped ones."""

import json
import logging
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from pydantic import ValidationError
from sqlalchemy.orm import Session

from app.accounts.memberships import FREE
from app.catalog.models import VideoModel, load_catalog
from app.clock import now
from app.jobs.film_labels import labels_of
from app.jobs.model_terms import on_sale
from app.jobs.showcase import shown_films
from app.jobs.spec import Spec
from app.jobs.tables import Job
from app.prices.find import book_at
from app.reports.translations import decimals
from app.settings import get_settings
from app.web.formats import minor, money
from app.web.language import translate
from app.web.studio.examples import EXAMPLES
from pricing.book import PriceBook, PriceError
from pricing.money import round_to_minor
from pricing.price import per_second, price
from pricing.rate_key import RateKey
from pricing.usage import Customer, Usage

log = logging.getLogger(__name__)

_EXAMPLES = {each.id: each for each in EXAMPLES}


@dataclass(frozen=True)
class ShownFilm:
    """One film of the landing page. `total` and `per_second` are texts with their currency, at the present price."""

    id: str
    title: str
    prompts: tuple[str, ...]
    model: str
    size: str
    fps: int
    has_sound: bool
    seconds: str
    total: str
    per_second: str
    # The studio's example with the same storyboard; empty for a film of a customer.
    example: str = ""


def showcase_films(session: Session) -> list[ShownFilm]:
    """Return the films of the landing page: those that operators chose, else the shipped ones of a model on sale.

    A film without a present price is left out: what it would cost cannot be said. Where that leaves none of the chosen
    films, the shipped ones are shown.
    """
    moment = now(session)
    book = book_at(session, moment).book
    return _chosen_films(session, book, moment) or _shipped_films(session, book, moment)


def _chosen_films(session: Session, book: PriceBook, moment: datetime) -> list[ShownFilm]:
    rows = shown_films(session)
    names = labels_of(session, [job.id for _, job in rows])
    films = [
        _chosen_film(book, moment, agreement.id, job, names[job.id].name if job.id in names else "")
        for agreement, job in rows
    ]
    return [each for each in films if each is not None]


def _shipped_films(session: Session, book: PriceBook, moment: datetime) -> list[ShownFilm]:
    models = {each.id: each for each in on_sale(session, load_catalog(get_settings().catalog_dir).values())}
    films = [
        _shipped_film(book, moment, entry, models[entry["model"]])
        for entry in _entries().values()
        if entry["model"] in models
    ]
    return [each for each in films if each is not None]


@lru_cache(maxsize=1)
def _entries() -> dict[str, dict[str, Any]]:
    """Return what films.json says of the shipped films, by id."""
    return {each["id"]: each for each in json.loads(_folder().joinpath("films.json").read_text())}


def _folder() -> Traversable:
    return files("app.web").joinpath("showcase")


def shipped_file(film_id: str, extension: str) -> bytes | None:
    """Return the bytes of a shipped film (`mp4`) or of its poster (`jpg`), or None for an unknown film."""
    return _folder().joinpath(f"{film_id}.{extension}").read_bytes() if film_id in _entries() else None


def _chosen_film(book: PriceBook, moment: datetime, film_id: str, job: Job, name: str) -> ShownFilm | None:
    """Return a film as if a newcomer ordered all of it from text, whatever its owner reused, edited or waited for.

    None for a film without a present price, and for one whose stored Spec this release cannot read.
    """
    try:
        spec = Spec.model_validate(job.spec)
    except ValidationError:
        log.warning("The Spec of film %s cannot be read, so the landing page leaves the film out.", job.id)
        return None
    key = RateKey(spec.model, spec.resolution, audio=spec.has_sound)
    amounts = _amounts(book, moment, Usage(key, spec.seconds()))
    if amounts is None:
        return None
    model = load_catalog(get_settings().catalog_dir).get(job.model)
    prompts = tuple(shot.prompt for shot in spec.shots if shot.prompt)
    return ShownFilm(
        id=film_id,
        title=name or job.prompt.partition("\n")[0],
        prompts=prompts,
        model=model.name if model else job.model,
        size=f"{spec.width} × {spec.height}",
        fps=spec.fps,
        has_sound=spec.has_sound,
        seconds=decimals(spec.seconds()),
        total=amounts[0],
        per_second=amounts[1],
    )


def _shipped_film(book: PriceBook, moment: datetime, entry: dict[str, Any], model: VideoModel) -> ShownFilm | None:
    seconds = Fraction(entry["frames"], entry["fps"])
    amounts = _amounts(book, moment, Usage(RateKey(model.id, entry["resolution"], audio=True), seconds))
    if amounts is None:
        return None
    example = _EXAMPLES[entry["id"]]
    return ShownFilm(
        id=entry["id"],
        title=translate(example.title),
        prompts=tuple(shot.prompt for shot in example.draft.shots),
        model=model.name,
        size=entry["size"].replace("x", " × "),
        fps=entry["fps"],
        has_sound=True,
        seconds=decimals(seconds),
        total=amounts[0],
        per_second=amounts[1],
        example=entry["id"],
    )


def _amounts(book: PriceBook, moment: datetime, usage: Usage) -> tuple[str, str] | None:
    """Return the total and the price per second without a membership as texts; None where the book has no rate."""
    customer = Customer(book.known_membership(FREE))
    try:
        total = price(book, usage, customer, moment).total
        second = round_to_minor(per_second(book, usage, customer, moment), book.currency)
    except PriceError:
        return None
    return money(total.text, book.currency), minor(second.minor, book.currency)
