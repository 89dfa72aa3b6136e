"""What the studio's form shows of a draft: storyboard, price, what is understood, tiers, options and wrong fields."""

from typing import Any

from pydantic import ValidationError
from sqlalchemy.orm import Session

from app.accounts.projects import list_projects
from app.catalog.models import Catalog, VideoModel, load_catalog
from app.catalog.sizes import RATIOS, RESOLUTIONS
from app.clock import now
from app.errors import AppError
from app.jobs.model_terms import on_sale
from app.jobs.priced import Priced
from app.jobs.quote import estimate
from app.prices.find import book_at
from app.settings import get_settings
from app.wallet.balance import balance
from app.web.auth import Visitor
from app.web.problems import validation_error
from app.web.sentences import sentence
from app.web.studio.draft import SECONDS_MAX, SHOTS_MAX, Draft, draft_request, price_preview, timeline
from app.web.studio.draft_edits import has_word, word_separator
from app.web.studio.queue_notice import waiting_reason
from app.web.studio.tier_offers import tier_offers
from app.web.studio.understood import understood_prompts


def form_context(session: Session, visitor: Visitor, draft: Draft, *, error: AppError | None = None) -> dict[str, Any]:
    """Return the template values of the storyboard and of its price; `error` is why the form was refused."""
    priced, price_error = _priced(session, visitor, draft)
    prompts = [shot.prompt for shot in draft.shots]
    understood = [None] * len(prompts) if priced is None or visitor.test else understood_prompts(priced.model, prompts)
    funds = None if visitor.test else balance(session, visitor.caller.account_id).available
    tiers = book_at(session, now(session)).book.service_tiers.values()
    problem = error or price_error
    return {
        "shots": draft.shots,
        "removed": draft.removed,
        "blocks": timeline(draft.shots),
        "shots_max": SHOTS_MAX,
        "seconds_max": SECONDS_MAX,
        "understood": understood,
        "meter": None if priced is None else price_preview(priced, funds),
        "price_error": price_error,
        "wrong": {problem.field: sentence(problem)} if problem is not None and problem.field else {},
        "is_refused": error is not None,
        "tiers": tier_offers(session, visitor, tiers, priced),
        "inputs": model_inputs(priced.model if priced else _catalog().find(draft.model)),
        "has_word": has_word,
    }


def model_inputs(model: VideoModel | None) -> dict[str, Any]:
    """Return which words and frames the storyboard offers for a model; every frame where no model is known."""
    if model is None:
        return {"model": "", "words": {}, "separator": ", ", "start_frame": True, "end_frame": True}
    return {
        "model": model.id,
        "words": model.prompt_words,
        "separator": word_separator(model),
        "start_frame": "i2v" in model.modes,
        "end_frame": model.last_frame != "no",
    }


def model_of(session: Session, visitor: Visitor, draft: Draft) -> VideoModel | None:
    """Return the model that would make a draft: for `auto` the one that the price is of, else the one that is set."""
    named = _catalog().find(draft.model)
    if named is not None:
        return named
    priced, _ = _priced(session, visitor, draft)
    return None if priced is None else priced.model


def _catalog() -> Catalog:
    return load_catalog(get_settings().catalog_dir)


def _priced(session: Session, visitor: Visitor, draft: Draft) -> tuple[Priced | None, AppError | None]:
    """Return the price of the form's content, or the error that prevents one."""
    try:
        return estimate(session, visitor.caller, draft_request(draft, allow_empty_prompts=True)), None
    except ValidationError as error:
        return None, validation_error(error)
    except AppError as error:
        return None, error


def form_options(session: Session, visitor: Visitor, selected: str) -> dict[str, Any]:
    """Return the form's options: models, sizes and projects.

    The synthetic model renders test films. It is offered in test mode only, unless the draft has it already.
    """
    models = [
        each
        for each in on_sale(session, _catalog().values())
        if each.family != "synthetic" or visitor.test or each.id == selected
    ]
    return {
        "waiting": waiting_reason(session, visitor, models),
        "models": [
            {
                "id": each.id,
                "name": each.name,
                "note": each.note,
                "retires_at": each.retires_at,
                "is_deprecated": each.deprecated_at is not None and each.deprecated_at <= now(session),
            }
            for each in sorted(models, key=lambda each: each.family == "synthetic")
        ],
        "sounding": [each.name for each in models if each.sound],
        "resolutions": RESOLUTIONS,
        "ratios": RATIOS,
        "projects": [{"id": each.id, "name": each.name} for each in list_projects(session, visitor.caller.account_id)],
    }
