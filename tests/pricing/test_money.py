from decimal import Decimal
from fractions import Fraction

import pytest

from pricing.exact import exact_number, exact_text, parse_exact
from pricing.money import Money, minor_per_major, round_to_minor, split


@pytest.mark.parametrize(
    ("amount", "minor"),
    [
        ("5.265", 527),
        ("5.2649999999", 526),
        ("0.005", 1),
        ("0.0049", 0),
        ("-0.005", -1),
        ("-5.264", -526),
        ("0", 0),
        ("2.19375", 219),
    ],
)
def test_settle_rounds_half_up(amount, minor):
    assert round_to_minor(Decimal(amount), "CNY") == Money(minor, "CNY")


def test_settle_keeps_the_places_of_the_currency():
    assert round_to_minor(Fraction(1, 3), "JPY").text == "0"
    assert round_to_minor(Decimal("1234.5"), "JPY").text == "1235"
    assert round_to_minor(7, "CNY").text == "7.00"


@pytest.mark.parametrize("value", [0.5, 1.0, float("nan"), True, "1", None, complex(1)])
def test_every_money_function_refuses_floats_and_other_types(value):
    for call in (
        lambda: parse_exact(value),
        lambda: exact_text(value),
        lambda: round_to_minor(value, "CNY"),
        lambda: split(Money(1, "CNY"), [value]),
        lambda: Money(value, "CNY"),
        lambda: Money(1, "CNY") + value,
        lambda: Money(1, "CNY") < value,
    ):
        with pytest.raises(TypeError):
            call()
    if not isinstance(value, str):
        with pytest.raises(TypeError):
            Money.parse(value, "CNY")
        with pytest.raises(TypeError):
            exact_number(value)


def test_money_is_never_multiplied():
    with pytest.raises(TypeError):
        Money(100, "CNY") * 2


def test_a_decimal_that_is_not_finite_is_refused():
    for text in ("NaN", "Infinity", "-Infinity"):
        with pytest.raises(ValueError):
            round_to_minor(Decimal(text), "CNY")


def test_money_reads_and_writes_every_digit():
    assert Money.parse("4.5", "CNY").text == "4.50"
    assert Money.parse("-0.07", "CNY").minor == -7
    assert Money(-7, "CNY").text == "-0.07"
    assert Money(5, "JPY").text == "5"
    assert str(Money(439, "CNY")) == "4.39 CNY"
    assert Money(439, "CNY").major == Decimal("4.39")


@pytest.mark.parametrize("text", ["4.395", "", "abc", "1e5", "NaN", " 4.50", "4,50", "٤", "1/2"])
def test_money_refuses_text_that_is_no_exact_amount(text):
    with pytest.raises(ValueError):
        Money.parse(text, "CNY")


def test_currencies_do_not_mix():
    with pytest.raises(ValueError):
        Money(1, "CNY") + Money(1, "USD")
    with pytest.raises(ValueError):
        _ = Money(1, "CNY") < Money(1, "USD")
    assert Money(1, "CNY") != Money(1, "USD")
    with pytest.raises(ValueError, match="unknown currency"):
        minor_per_major("XXX")


def test_the_lines_of_the_first_second_sum_to_the_published_price():
    # 0.90 - 0.315 - 0.14625 = 0.43875; rounding each line by itself would give 0.43.
    shares = split(Money(44, "CNY"), [Decimal("0.90"), Decimal("-0.315"), Decimal("-0.14625")])
    assert [share.text for share in shares] == ["0.90", "-0.31", "-0.15"]


def test_split_refuses_a_total_that_its_parts_do_not_make():
    with pytest.raises(ValueError):
        split(Money(2, "CNY"), [Decimal("0.01")])
    assert split(Money(0, "CNY"), []) == ()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Fraction(5), "5"),
        (Fraction(9, 2), "4.5"),
        (Fraction(121, 24), "121/24"),
        (Fraction(-1, 8), "-0.125"),
        (Decimal("0.90"), "0.9"),
        (Decimal("1E+3"), "1000"),
        (Fraction(-1, 3), "-1/3"),
        (0, "0"),
    ],
)
def test_exact_numbers_have_one_spelling(value, text):
    assert exact_text(value) == text
    assert exact_number(text) == Fraction(value)


@pytest.mark.parametrize("text", ["", "1/0", "1e3", "nan", "1.", ".5", "1 /2", "+1", "1_000"])
def test_other_spellings_are_refused(text):
    with pytest.raises(ValueError):
        exact_number(text)
