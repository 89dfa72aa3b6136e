import pytest

from app.parsing import LARGEST, parse_integer


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("007", 7),
        ("720", 720),
        ("9" * 18, 10**18 - 1),
        ("9" * 5_000, LARGEST),
        ("0" * 5_000 + "1", 1),
        ("", None),
        ("²", None),
        ("٣", None),
        ("-1", None),
        ("1.0", None),
        (" 1", None),
        ("1\n", None),
    ],
)
def test_only_plain_digits_are_a_number(text: str, number: int | None) -> None:
    assert parse_integer(text) == number
