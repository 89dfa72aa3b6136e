"""Formatting of amounts, times and sizes, charts, and parsing of form fields."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from app.errors import AppError
from app.web.charts import bar_chart, shares
from app.web.formats import ago, minor, money, seconds, size, when
from app.web.forms import parse_form_amount
from app.web.studio.draft import Draft, ShotDraft, draft_request
from app.web.studio.draft_edits import edit_draft

MOMENT = datetime(2026, 5, 3, 12, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        ("4.39", "CNY", "¥4.39"),
        ("-1.58", "CNY", "−¥1.58"),
        ("1234567.80", "USD", "$1,234,567.80"),
        (Decimal("0.4"), "EUR", "€0.4"),
        ("500", "JPY", "¥500"),
        ("5.00", "CHF", "CHF\xa05.00"),
    ],
)
def test_money(amount, currency: str, text: str):
    assert money(amount, currency) == text


def test_minor_units():
    assert (minor(439, "CNY"), minor(-1, "CNY"), minor(500, "JPY")) == ("¥4.39", "−¥0.01", "¥500")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (5, "5 s"),
        ("5.5", "5.5 s"),
        (Decimal("0.125"), "0.125 s"),
        (80, "1 min 20 s"),
        (7500, "2 h 5 min"),
        (10, "10 s"),
    ],
)
def test_lengths(number, text: str):
    assert seconds(number).replace("\xa0", " ") == text


def test_sizes_and_moments():
    assert size(812).replace("\xa0", " ") == "812 B"
    assert size(4_200_000).replace("\xa0", " ") == "4.2 MB"
    assert when(MOMENT, "Asia/Shanghai") == "3 May 2026, 20:05"
    assert ago(MOMENT - timedelta(minutes=2), MOMENT) == "2 minutes ago"
    assert ago(MOMENT + timedelta(days=1), MOMENT) == "in 1 day"


def test_typed_amounts_are_parsed():
    assert parse_form_amount(" ¥1,234.50", "CNY", "amount") == 123_450
    for typed in ("", "ten", "1.234", "-5", "NaN"):
        with pytest.raises(AppError):
            parse_form_amount(typed, "CNY", "amount")


def test_charts_keep_small_values_visible():
    chart = bar_chart([("a", 0, "0"), ("b", 1, "1"), ("c", 10_000, "10000")])
    assert [bar.height for bar in chart.bars][:2] == [0, 2.0]
    assert chart.top == "10000"
    assert bar_chart([]).is_empty
    chart = bar_chart([("a", 1, "1"), ("b", 31, "31")], tick_text=str)
    assert [tick.text for tick in chart.ticks] == ["20", "40"]
    assert chart.bars[0].x >= chart.left > 0
    assert chart.bars[1].y > chart.ticks[1].y, "the axis ends above the highest bar"
    assert bar_chart([("a", 0, "0")], tick_text=str).ticks == ()
    assert [row["share"] for row in shares([("x", 1, "1"), ("y", 4, "4")])] == [1000, 250]


def test_a_storyboard_is_changed_by_its_buttons():
    draft = Draft(shots=tuple(ShotDraft(prompt=name) for name in "abc"))

    def after(action: str) -> str:
        return "".join(shot.prompt or "+" for shot in edit_draft(draft, action).shots)

    assert {action: after(action) for action in ("add", "remove:1", "up:2", "down:0")} == {
        "add": "abc+",
        "remove:1": "ac",
        "up:2": "acb",
        "down:0": "bac",
    }
    assert {after(action) for action in ("up:0", "down:2", "up:9", "nonsense")} == {"abc"}
    assert [shot.prompt for shot in draft_request(draft).shots] == ["a", "b", "c"]
