"""The demo model's words in Chinese: each sentence becomes the English one that the model was trained to read."""

from pathlib import Path

import pytest

from app.catalog.demo_chinese import WORDS
from app.catalog.demo_terms import parse_prompt

SENTENCES = [
    tuple(line.split("\t"))
    for line in Path(__file__).with_name("chinese_prompts.tsv").read_text(encoding="utf-8").splitlines()
]


def test_there_are_a_hundred_sentences() -> None:
    assert len({chinese for chinese, _ in SENTENCES}) == 100


@pytest.mark.parametrize(("chinese", "english"), SENTENCES)
def test_a_chinese_sentence_is_read_as_its_english_one(chinese: str, english: str) -> None:
    assert parse_prompt(chinese).prompt == english


def test_terms_are_in_the_words_of_the_prompt() -> None:
    terms = parse_prompt("一只金毛犬在海上冲浪，金色的球").terms
    assert [(term.said, term.taken, term.known) for term in terms if term.said] == [
        ("海", "blue", False),
        ("金色", "yellow", False),
        ("球", "circle", False),
    ]
    assert parse_prompt("一只金毛犬在海上冲浪").ignored == ("金毛犬", "冲浪")
    assert parse_prompt("红色圆形在蓝色背景上向左移动").ignored == ()


def test_every_english_word_of_the_table_is_understood() -> None:
    # Gray is a colour of backgrounds only.
    gray = {word for word, english in WORDS.items() if english in ("gray", "silver")}
    for chinese in set(WORDS) - gray:
        assert parse_prompt(chinese).ignored == (), (chinese, WORDS[chinese])
    for chinese in gray:
        assert parse_prompt(f"红色圆在{chinese}背景上").scene.background == "gray"
