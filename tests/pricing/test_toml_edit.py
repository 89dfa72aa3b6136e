"""Edits of a TOML text: one value changes, everything else stays as it is written."""

import tomllib
from importlib.resources import files

import pytest

from pricing.toml_edit import TomlEditError, TomlText, syntax_line, toml_literal, value_at

BOOK = files("pricing").joinpath("books/2026-04-27.toml").read_text()
ODD = '''# head
name = "a#b" # after
"quoted key" = 1
words = [
  "one", # first
  "]two",
]
text = """
[[rates]]
per_second = "not this"
"""
[owner]
title = { en = 'it is', zh = "x}" }   # inline
[[rates]]
per_second = "1"
[rates.title]
en = "below"
[[rates]]
# last
per_second = "2"'''


def changed_lines(before: str, after: str) -> list[str]:
    return [line for line in after.split("\n") if line not in before.split("\n")]


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ("rates[1].per_second", "0.99", 'per_second = "0.99"          # published'),
        ("memberships[1].title.zh", '专"业', 'title = { en = "Professional", zh = "专\\"业" }'),
        ("memberships[3].storage_gib", 7, "storage_gib = 7"),
        ("tax_rate", "0.13", 'tax_rate = "0.13"'),
        ("examples[18].total", "3.00", 'total = "3.00"'),
    ],
)
def test_one_value_changes_and_the_rest_stays(path: str, value: object, line: str):
    edited = TomlText(BOOK).with_value(path, value)
    assert value_at(edited.data, path) == value
    assert [each for each in changed_lines(BOOK, edited.text) if each != line] == []
    assert edited.text.split("\n")[edited.line_of(path) - 1] == line


def test_a_value_is_set_and_removed_again():
    text = TomlText(BOOK)
    assert text.with_value("memberships[3].storage_gib", 7).with_value("memberships[3].storage_gib", None).text == BOOK
    assert text.with_value("rates[0].audio", None).text == BOOK


def test_a_row_is_added_behind_its_kind_and_removed_again():
    text, row = TomlText(BOOK), {"id": "x", "title": {"en": "a", "zh": "b"}, "factor": "1", "days": [1, 2]}
    for table in ("rates", "memberships", "promotions", "service_tiers", "examples", "others"):
        longer = text.with_table(table, row)
        assert longer.data[table][-1] == row
        assert longer.without_table(table, len(longer.data[table]) - 1).text.rstrip("\n") == BOOK.rstrip("\n")


def test_comments_around_a_removed_row_stay():
    shorter = TomlText(BOOK).without_table("promotions", 0)
    assert "promotions" not in shorter.data
    assert "# Service tiers. The factors" in shorter.text
    assert "# Promotions, by rising priority" in shorter.text


def test_text_in_other_layouts_is_edited_or_refused_and_never_spoilt():
    text = TomlText(ODD)
    assert text.line_of("rates[1].per_second") == ODD.count("\n") + 1
    assert text.line_of("rates[0].title.en") == 17
    assert text.line_of("words") == 4
    assert text.with_value("words", None).data["owner"] == text.data["owner"]
    assert text.with_value("owner.title.zh", "y").text == ODD.replace('"x}"', '"y"')
    assert text.with_value("rates[1].note", "end").text == ODD + '\nnote = "end"\n'
    assert text.with_value("rates[0].title.en", "b").text == ODD.replace('"below"', '"b"')
    assert "below" not in text.without_table("rates", 0).text
    inline = TomlText('rates = [{ id = "a" }]\na.b = 1\n')
    for edit in (
        lambda: inline.with_value("rates[0].id", "b"),
        lambda: inline.with_table("rates", {"id": "b"}),
        lambda: inline.without_table("rates", 0),
        lambda: inline.with_value("a.b", 2),
        lambda: inline.with_value("nothing.here", 2),
        lambda: text.with_value("owner.title.fr", "z"),
    ):
        with pytest.raises(TomlEditError):
            edit()


def test_the_line_of_a_syntax_error_is_read_from_its_message():
    with pytest.raises(tomllib.TOMLDecodeError) as refusal:
        TomlText("a = 1\nb = \n")
    assert syntax_line(str(refusal.value)) == 2
    assert syntax_line("something else") is None


def test_literals_read_back_as_they_were():
    for value in ('a"\\\n\x7f\x01é', True, 7, ["x", "y"], {"en": "a", "zh": "b"}):
        assert tomllib.loads(f"v = {toml_literal(value)}")["v"] == value
