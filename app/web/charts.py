"""Layout of bar charts, in SVG units. The template only draws."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

WIDTH, HALF_WIDTH, HEIGHT = 720, 350, 160
# Space under the bars for their labels.
_LABEL_HEIGHT = 22
# Width of one label.
_LABEL_WIDTH = 80


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
class Chart:
    """Bars from left to right, and the text of the highest one."""

    width: int
    height: int
    base: int
    bars: tuple[Bar, ...]
    top: str

    @property
    def is_empty(self) -> bool:
        """Whether every bar is zero."""
        return not any(bar.height for bar in self.bars)


def bar_chart(rows: Sequence[tuple[str, int | Decimal | Fraction, str]], *, width: int = WIDTH) -> Chart:
    """Return the chart of rows (label, value, value as text). Where labels would overlap, only some are drawn."""
    height = HEIGHT
    base = height - _LABEL_HEIGHT
    highest = max((Fraction(value) for _, value, _ in rows), default=Fraction(0))
    step = width / max(1, len(rows))
    gap = min(6.0, step * 0.25)
    label_step = -(-len(rows) * _LABEL_WIDTH // width) or 1
    bars = []
    for number, (label, value, text) in enumerate(rows):
        bar_height = round(float(Fraction(value) / highest) * (base - 14), 1) if highest else 0.0
        # A small value stays visible.
        bar_height = max(bar_height, 2.0) if value else 0.0
        bars.append(
            Bar(
                x=round(number * step + gap / 2, 1),
                y=round(base - bar_height, 1),
                width=round(step - gap, 1),
                height=bar_height,
                label=label,
                text=text,
                is_labelled=number % label_step == 0,
            )
        )
    top = next((text for _, value, text in rows if highest and Fraction(value) == highest), "")
    return Chart(width, height, base, tuple(bars), top)


def shares(rows: Sequence[tuple[str, int | Decimal | Fraction, str]]) -> list[dict[str, object]]:
    """Return rows with their share of the largest value, in thousandths, largest first."""
    ordered = sorted(rows, key=lambda row: Fraction(row[1]), reverse=True)
    highest = Fraction(ordered[0][1]) if ordered else Fraction(0)
    return [
        {"label": label, "text": text, "share": int(1000 * Fraction(value) / highest) if highest else 0}
        for label, value, text in ordered
    ]
