"""What a model takes from the prompts of a draft: a line under each prompt, and the question before an order."""

from dataclasses import dataclass
from typing import Any

from app.catalog.demo_terms import prompt_terms
from app.catalog.models import VideoModel
from app.catalog.prompt_warnings import is_near, knows_subject, prompt_warnings
from app.errors import AppError
from app.web.language import gettext, translate


@dataclass(frozen=True)
class Understood:
    """What a model takes from one prompt. `near` are pairs of the word written and the word that is taken."""

    known: tuple[str, ...]
    near: tuple[tuple[str, str], ...]
    lost: tuple[str, ...]
    assumed: tuple[str, ...]
    knows_subject: bool


def understood_prompts(model: VideoModel, prompts: list[str]) -> list[Understood | None]:
    """Return a line for each prompt; None for an empty prompt, and for all where the model reads every word."""
    terms = prompt_terms(model, prompts)
    if terms is None:
        return [None] * len(prompts)
    return [_line(each) if prompt else None for each, prompt in zip(terms, prompts, strict=True)]


def _line(terms: list[dict[str, Any]]) -> Understood:
    said = [term for term in terms if term["said"]]
    return Understood(
        known=tuple(term["said"] for term in said if term["taken"] and not is_near(term)),
        near=tuple((term["said"], term["taken"]) for term in said if is_near(term)),
        lost=tuple(term["said"] for term in said if not term["taken"]),
        assumed=tuple(_assumed(term) for term in terms if not term["said"]),
        knows_subject=knows_subject(terms),
    )


def _assumed(term: dict[str, Any]) -> str:
    word = translate(str(term["taken"]))
    return gettext("%(color)s background", color=word) if term["kind"] == "background" else word


def ask_about_subject(model: VideoModel, prompts: list[str], *, is_confirmed: bool) -> None:
    """Ask before an order whose subject the model does not know.

    Raises AppError `conflict` with the fact `question` unless the order is confirmed.
    """
    if is_confirmed:
        return
    facts = {"prompt_terms": prompt_terms(model, prompts) or ()}
    unknown = [each for each in prompt_warnings(facts) if each.code == "unknown_subject"]
    if unknown:
        message = " ".join(each.message for each in unknown)
        raise AppError("conflict", f"{message} Generate it anyway?", field=unknown[0].field, question=True)
