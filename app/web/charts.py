"""Figures for charts: where each bar stands, in whole units of the drawing. The template only draws."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

WIDTH, HALF_WIDTH, HEIGHT = 720, 350, 160
# Room under the bars for their labels.
_FOOT = 22
# Room that one written label takes.
_LABEL = 80


@dataclass(frozen=True)
class Bar:
    """One bar: where it stands, what it is called, and its value in words."""

    x: float
    y: float
    width: float
    height: float
    label: str
    text: str
    is_labelled: bool


@dataclass(frozen=True)
class Chart:
    """Bars from left to right, and the words for the highest one."""

    width: int
    height: int
    base: int
    bars: tuple[Bar, ...]
    top: str

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to see."""
        return not any(bar.height for bar in self.bars)


def bar_chart(rows: Sequence[tuple[str, int | Decimal | Fraction, str]], *, width: int = WIDTH) -> Chart:
    """Return the chart of rows (label, value, value in words). Of many labels only some are written out."""
    height = HEIGHT
    base = height - _FOOT
    highest = max((Fraction(value) for _, value, _ in rows), default=Fraction(0))
    step = width / max(1, len(rows))
    gap = min(6.0, step * 0.25)
    every = -(-len(rows) * _LABEL // width) or 1
    bars = []
    for number, (label, value, text) in enumerate(rows):
        tall = round(float(Fraction(value) / highest) * (base - 14), 1) if highest else 0.0
        # What is not nothing is seen.
        tall = max(tall, 2.0) if value else 0.0
        bars.append(
            Bar(
                x=round(number * step + gap / 2, 1),
                y=round(base - tall, 1),
                width=round(step - gap, 1),
                height=tall,
                label=label,
                text=text,
                is_labelled=number % every == 0,
            )
        )
    top = next((text for _, value, text in rows if highest and Fraction(value) == highest), "")
    return Chart(width, height, base, tuple(bars), top)


def shares(rows: Sequence[tuple[str, int | Decimal | Fraction, str]]) -> list[dict[str, object]]:
    """Return rows as shares of the largest, in thousandths, largest first."""
    ordered = sorted(rows, key=lambda row: Fraction(row[1]), reverse=True)
    highest = Fraction(ordered[0][1]) if ordered else Fraction(0)
    return [
        {"label": label, "text": text, "share": int(1000 * Fraction(value) / highest) if highest else 0}
        for label, value, text in ordered
    ]
