"""The rules checker: disguises are refused, harmless prompts pass, and the time grows with the text alone."""

import sys
import tomllib
from collections import Counter
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import pytest

from app.jobs.field_types import PROMPT_MAX, SHOTS_MAX
from app.moderation.outcomes import CheckedText, Finding, Outcome
from app.moderation.rules import RulesChecker, shipped_rules
from tests.app.moderation.prompts import disguised_prompts, harmless_lines, harmless_prompts, refused_lines

# Of a thousand prompts.
WRONGLY_REFUSED_MAX = 0.01


def check(prompt: str, **facts: Any) -> Finding | None:
    return shipped_rules().check(CheckedText(prompt, **facts))


def test_every_line_of_the_list_of_disguises_is_refused() -> None:
    lines = list(disguised_prompts())
    assert len(lines) > 1000
    assert [line for line in lines if check(line[1]) is None] == []


def test_a_thousand_harmless_prompts_pass() -> None:
    prompts = harmless_prompts()
    assert len(prompts) >= 1000
    refused = [(finding.rule, prompt) for prompt in prompts if (finding := check(prompt)) is not None]
    assert len(refused) <= WRONGLY_REFUSED_MAX * len(prompts), refused
    # A prompt that holds a picture of somebody is no reason either.
    with_input = [prompt for prompt in prompts if check(prompt, has_input=True) is not None]
    assert len(with_input) <= 2 * WRONGLY_REFUSED_MAX * len(prompts), with_input


def test_a_finding_names_the_rule_and_none_of_the_words() -> None:
    finding = check("nude child")
    assert finding == Finding(Outcome.REFUSE, "minors", 1.0, "minor-nudity", shipped_rules().version, "rules")
    assert check("undress the woman").category == "nudification"


@pytest.mark.parametrize(
    ("age", "is_refused"),
    [
        ("14 year old", True), ("14-year-old", True), ("aged 14", True), ("14yo", True), ("fourteen years old", True),
        ("17 y/o", True), ("十四岁", True), ("１４岁", True), ("十岁", True), ("二十岁", False), ("24 year old", False),
        ("aged 40", False), ("14 years ago", False), ("114 years old", False),
    ],
)  # fmt: skip
def test_stated_ages(age: str, *, is_refused: bool) -> None:
    assert (check(f"{age} porn") is not None) == is_refused


def test_a_picture_makes_undressing_a_refusal_by_itself() -> None:
    assert check("remove the clothes") is None
    assert check("remove the clothes", has_input=True).category == "nudification"


def test_a_negative_prompt_is_checked_too() -> None:
    assert check("a woman", negative_prompt="clothing").rule == "negative-dressed"
    assert check("a lamp", negative_prompt="clothing") is None
    assert check("a lamp", negative_prompt="blurry, child porn").category == "minors"
    assert check("a woman", negative_prompt="blurry, (any clothes:1.4), 低质量").rule == "negative-dressed"
    assert check("a child", negative_prompt="blurry, nude") is None
    assert check("rain", negative_prompt="ugly, shirt, bra", has_input=True).rule == "input-negative-dressed"
    assert check("rain", negative_prompt="ugly shirt", has_input=True) is None


def test_single_harmless_texts_pass() -> None:
    assert len(harmless_lines()) >= 60
    assert [line for line in harmless_lines() if check(line) is not None] == []
    assert [line for line in harmless_lines("picture_lines") if check(line, has_input=True) is not None] == []
    for has_input in (False, True):
        refused = [
            line
            for line in harmless_lines("negatives")
            if check("a woman and a child in a garden", negative_prompt=line, has_input=has_input) is not None
        ]
        assert refused == []


def test_words_of_undressing_and_of_minors_are_refused() -> None:
    assert [line for line in refused_lines("lines") if check(line) is None] == []


def test_with_a_picture_undressing_needs_no_person() -> None:
    assert [line for line in refused_lines("picture_lines") if check(line, has_input=True) is None] == []


def test_care_is_no_reason_where_there_is_a_picture() -> None:
    assert check("undress the toddler for bath time", has_input=True) is not None


def check_film(*prompts: str, style: str = "") -> Finding | None:
    return shipped_rules().check(*(CheckedText(prompt, style=style) for prompt in prompts))


def test_a_scene_that_is_cut_into_shots_is_one_but_shots_are_apart() -> None:
    filler = "and then the camera moves on " * 8
    assert check_film("a child stands", "naked") is not None
    assert check_film(f"a child {filler}", f"a nude by an old master {filler}") is None
    assert check_film(f"a child {filler}", filler, "porn") is not None
    assert check_film("Remove", "her dress is red") is None
    assert check_film("a child", "rain", style="nude") is not None
    assert check_film("de child", "rain", style="nu") is not None
    assert check_film("rain", "wind", style="a child porn film") is not None


def test_an_edit_is_read_with_the_words_of_its_film() -> None:
    edit = CheckedText("make everybody naked", has_input=False, earlier="a child on a beach")
    assert shipped_rules().check(edit) is not None
    assert shipped_rules().check(CheckedText("make it rain", has_input=True, earlier="a life drawing nude")) is None


def test_rules_name_classes_that_have_words() -> None:
    content = tomllib.loads(files("app.moderation").joinpath("rules.toml").read_text(encoding="utf-8"))
    content["rules"][0]["all"] = ["no such class"]
    with pytest.raises(ValueError, match="classes without words"):
        RulesChecker(content)


def _calls(action: Callable[[], object]) -> int:
    """Count the calls of an action, Python's and C's: work that no load of the machine changes."""
    calls: Counter[str] = Counter()
    sys.setprofile(lambda _frame, event, _argument: calls.update([event]))
    try:
        action()
    finally:
        sys.setprofile(None)
    return calls["call"] + calls["c_call"]


def test_the_style_line_of_fifty_shots_is_read_once() -> None:
    style = ("a child in a garden " * PROMPT_MAX)[:PROMPT_MAX]
    prompts = [f"shot {number} of the sea" for number in range(SHOTS_MAX)]
    check_film(*prompts, style=style)
    alone = _calls(lambda: check_film(style))
    assert _calls(lambda: check_film(*prompts, style=style)) < 5 * alone


@pytest.mark.parametrize(
    "piece",
    ["n u d e ", "n.u.d.e.", "a", "n ", "nude child ", "裸小脱儿", "裸，", "n*de ", "undressin ", "naked eye naked ",
     "nude_", "take ", "\u0301\u0316", "\ufdfa", "14 year ", "十", "nakedthe", "\U0001f1f3"],
)  # fmt: skip
def test_the_work_grows_with_the_text_alone(piece: str) -> None:
    def work(length: int) -> int:
        return _calls(lambda: check((piece * length)[:length], negative_prompt=(piece * length)[:length]))

    work(PROMPT_MAX)
    short, long = work(PROMPT_MAX // 4), work(PROMPT_MAX)
    assert long <= 5 * short + 2000
    # A call takes about 0.1 µs: two texts of full length cost less than 20 ms.
    assert long < 150_000
