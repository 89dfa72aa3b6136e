"""Warnings about prompts: what the demo model did not understand, in sentences."""

from app.catalog.demo_terms import prompt_terms
from app.catalog.models import load_catalog
from app.catalog.prompt_warnings import prompt_warnings

CATALOG = load_catalog()


def warnings(*prompts: str, model: str = "demo") -> dict[str, str]:
    facts = {"prompt_terms": prompt_terms(CATALOG[model], list(prompts))}
    return {f"{each.code} {each.field}": each.message for each in prompt_warnings(facts)}


def test_known_words_are_no_warning() -> None:
    assert warnings("a red circle moves left on a blue background", "红色的圆在蓝色背景上向左移动") == {}
    assert warnings("two red squares") == {"not_understood shots.0.prompt": "Not understood: “two”."}


def test_an_unknown_subject_says_what_is_drawn_instead() -> None:
    assert warnings("golden retriever surfing") == {
        "unknown_subject shots.0.prompt": "No subject that this model knows; it draws a circle.",
        "not_understood shots.0.prompt": "Not understood: “retriever”, “surfing”.",
        "nearest_words shots.0.prompt": "Nearest known words: golden → yellow.",
    }
    assert warnings("a dog on the beach", "a red ball")["unknown_subject shots.0.prompt"] == (
        "Shot 1: This model does not know “dog”; it draws a circle."
    )
    assert "unknown_subject shots.1.prompt" not in warnings("a dog on the beach", "a red ball")
    assert warnings("三个粉色方块")["not_understood shots.0.prompt"] == "Not understood: “三”."


def test_an_open_vocabulary_warns_of_nothing() -> None:
    assert warnings("golden retriever surfing", model="synthetic") == {}
    assert prompt_warnings({}) == []
