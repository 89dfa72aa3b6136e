"""Layout of bar charts, in SVG units. The template only draws."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

WIDTH, HALF_WIDTH, HEIGHT = 720, 350, 160
# Space under the bars for their labels.
_LABEL_HEIGHT = 22
# Width of one label, and of the texts of the axis.
_LABEL_WIDTH = 80
_AXIS_WIDTH = 58


@dataclass(frozen=True)
class Bar:
    """One bar: its position, its label, and its value as text."""

    x: float
    y: float
    width: float
    height: float
    label: str
    text: str
    is_labelled: bool


@dataclass(frozen=True)
class Tick:
    """A line across the chart, and its value as text."""

    y: float
    text: str


@dataclass(frozen=True)
class Chart:
    """Bars from left to right behind an axis of width `left`, and the text of the highest one."""

    width: int
    height: int
    base: int
    bars: tuple[Bar, ...]
    top: str
    left: int = 0
    ticks: tuple[Tick, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether every bar is zero."""
        return not any(bar.height for bar in self.bars)


def bar_chart(
    rows: Sequence[tuple[str, int | Decimal | Fraction, str]],
    *,
    width: int = WIDTH,
    tick_text: Callable[[int], str] | None = None,
) -> Chart:
    """Return the chart of rows (label, value, value as text). Where labels would overlap, only some are drawn.

    `tick_text` returns the text of a whole value; with it the chart has an axis that ends at a round value.
    """
    height = HEIGHT
    base = height - _LABEL_HEIGHT
    highest = max((Fraction(value) for _, value, _ in rows), default=Fraction(0))
    left = _AXIS_WIDTH if tick_text and highest > 0 else 0
    full = Fraction(round_up(highest)) if left else highest
    step = (width - left) / max(1, len(rows))
    gap = min(6.0, step * 0.25)
    label_step = -(-len(rows) * _LABEL_WIDTH // (width - left)) or 1
    bars = []
    for number, (label, value, text) in enumerate(rows):
        bar_height = round(float(Fraction(value) / full) * (base - 14), 1) if highest else 0.0
        # A small value stays visible.
        bar_height = max(bar_height, 2.0) if value else 0.0
        bars.append(
            Bar(
                x=round(left + number * step + gap / 2, 1),
                y=round(base - bar_height, 1),
                width=round(step - gap, 1),
                height=bar_height,
                label=label,
                text=text,
                is_labelled=number % label_step == 0,
            )
        )
    top = next((text for _, value, text in rows if highest and Fraction(value) == highest), "")
    ticks = _ticks(int(full), base, tick_text) if tick_text and left else ()
    return Chart(width, height, base, tuple(bars), top, left, ticks)


def round_up(value: Fraction) -> int:
    """Return the least of 2, 4, 10, 20, 40, 100, … that is not below a value: its half is a whole number too."""
    power = 1
    while True:
        for factor in (2, 4, 10):
            if factor * power >= value:
                return factor * power
        power *= 10


def _ticks(full: int, base: int, tick_text: Callable[[int], str]) -> tuple[Tick, ...]:
    """Return the lines at the end of the axis and at its half."""
    return tuple(Tick(round(base - share * (base - 14) / 2, 1), tick_text(full * share // 2)) for share in (1, 2))


def shares(rows: Sequence[tuple[str, int | Decimal | Fraction, str]]) -> list[dict[str, object]]:
    """Return rows with their share of the largest value, in thousandths, largest first."""
    ordered = sorted(rows, key=lambda row: Fraction(row[1]), reverse=True)
    highest = Fraction(ordered[0][1]) if ordered else Fraction(0)
    return [
        {"label": label, "text": text, "share": int(1000 * Fraction(value) / highest) if highest else 0}
        for label, value, text in ordered
    ]
