import pytest

from app.api.videos.translate import insert_field, resolve_lists
from app.errors import AppError
from app.file_delivery import byte_range


def placed(*fields: tuple[str, str]) -> dict[str, object]:
    values: dict[str, object] = {}
    for key, value in fields:
        insert_field(values, key, value)
    return values


def test_bracket_keys_become_nested_values() -> None:
    assert placed(
        ("prompt", "a"),
        ("metadata[scene]", "1"),
        ("shots[][prompt]", "one"),
        ("shots[][seconds]", "2"),
        ("shots[][prompt]", "two"),
        ("shots[][seconds]", "3"),
    ) == {
        "prompt": "a",
        "metadata": {"scene": "1"},
        "shots": [{"prompt": "one", "seconds": "2"}, {"prompt": "two", "seconds": "3"}],
    }


def test_fields_may_be_sent_column_by_column() -> None:
    assert placed(
        ("shots[][prompt]", "one"), ("shots[][prompt]", "two"), ("shots[][seconds]", "2"), ("shots[][seconds]", "3")
    ) == {"shots": [{"prompt": "one", "seconds": "2"}, {"prompt": "two", "seconds": "3"}]}


def test_ambiguous_form_elements_are_refused() -> None:
    values = placed(("shots[][prompt]", "one"), ("shots[][prompt]", "two"), ("shots[][seconds]", "2"))
    with pytest.raises(AppError) as refused:
        resolve_lists(values)
    assert refused.value.field == "shots"


def test_numbered_elements_are_read_in_order() -> None:
    assert placed(("shots[0][prompt]", "one"), ("shots[1][prompt]", "two"), ("shots[1][seconds]", "3")) == {
        "shots": [{"prompt": "one"}, {"prompt": "two", "seconds": "3"}]
    }


@pytest.mark.parametrize(
    "fields",
    [
        [("seed", "1"), ("seed", "2")],
        [("a[", "1")],
        [("[]", "1")],
        [("a", "1"), ("a[b]", "2")],
        [("a[5][b]", "1")],
        [("a" + "[b]" * 20, "1")],
    ],
)
def test_a_form_that_contradicts_itself_is_refused(fields: list[tuple[str, str]]) -> None:
    with pytest.raises(AppError) as refused:
        placed(*fields)
    assert refused.value.code == "invalid_request"
    assert refused.value.field


@pytest.mark.parametrize(
    ("header", "span"),
    [
        (None, None),
        ("bytes=0-", (0, 100)),
        ("bytes=0-0", (0, 1)),
        ("bytes=90-200", (90, 100)),
        ("bytes=-10", (90, 100)),
        ("bytes=-200", (0, 100)),
        (f"bytes=0-{'9' * 5_000}", (0, 100)),
        (f"bytes=-{'9' * 5_000}", (0, 100)),
        (f"bytes={'0' * 5_000}-{'0' * 5_000}9", (0, 10)),
        ("bytes=0-1,5-6", None),
        ("lines=1-2", None),
    ],
)
def test_byte_ranges(header: str | None, span: tuple[int, int] | None) -> None:
    assert byte_range(header, 100) == span


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=5-4", "bytes=-0", f"bytes={'9' * 5_000}-"])
def test_a_range_outside_the_file_is_refused(header: str) -> None:
    with pytest.raises(AppError) as refused:
        byte_range(header, 100)
    assert refused.value.code == "range_not_satisfiable"
