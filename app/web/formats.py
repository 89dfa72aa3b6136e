"""Template filters for money, times, durations and sizes. Amounts are decimal strings or integer minor units."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from app.provenance.label_policy import VisibleLabel
from app.reports.translations import decimals
from pricing.money import Money

_SYMBOLS = {"CNY": "¥", "USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥", "HKD": "HK$"}
# A typographic minus sign, and a non-breaking space between a number and its unit.
_MINUS, _SPACE = "\u2212", "\u00a0"


def money(amount: str | Decimal, currency: str) -> str:
    """Return a decimal amount with its symbol: `¥4.39`, `−¥1.58`."""
    text = f"{amount:f}" if isinstance(amount, Decimal) else amount
    sign = _MINUS if text.startswith("-") else ""
    whole, dot, part = text.lstrip("-").partition(".")
    symbol = _SYMBOLS.get(currency, currency + _SPACE)
    return f"{sign}{symbol}{int(whole):,}{dot}{part}"


def minor(amount: int, currency: str) -> str:
    """Return an amount in minor units with its symbol."""
    return money(Money(amount, currency).text, currency)


def typed(amount: int, currency: str) -> str:
    """Return an amount in minor units as the value of a form field: `4.39`."""
    return Money(amount, currency).text


def seconds(number: Any) -> str:
    """Return a duration in seconds as `5 s`, `1 min 20 s` or `2 h 5 min`."""
    value = Decimal(str(number))
    if value < 60:
        text = f"{value.quantize(Decimal('0.001')):f}"
        return f"{text.rstrip('0').rstrip('.') if '.' in text else text}{_SPACE}s"
    total = int(value)
    hours, rest = divmod(total, 3600)
    minutes, left = divmod(rest, 60)
    parts = [(hours, "h"), (minutes, "min"), (0 if hours else left, "s")]
    return " ".join(f"{count}{_SPACE}{unit}" for count, unit in parts if count)


def size(bytes_: int) -> str:
    """Return a file size in bytes as `812 B` or `4.2 MB`."""
    value = Decimal(bytes_)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.0f}{_SPACE}{unit}" if unit == "B" else f"{value:.1f}{_SPACE}{unit}"
        value /= 1000
    raise AssertionError("the last unit returns")


def moment_of(value: datetime | int | float | str) -> datetime:
    """Return the datetime of a datetime, Unix seconds or ISO text."""
    if isinstance(value, datetime):
        return value
    return datetime.fromisoformat(value) if isinstance(value, str) else datetime.fromtimestamp(value, UTC)


def when(value: datetime | int | float | str, zone: str, *, exact: bool = False) -> str:
    """Return a time in a zone: `22 Nov 2026, 15:42`; with `exact` also seconds and the zone's name."""
    local = moment_of(value).astimezone(ZoneInfo(zone))
    text = f"{local.day} {local:%b %Y, %H:%M}"
    return f"{text}:{local:%S} {local:%Z}" if exact else text


def day(value: datetime | int | float | str, zone: str) -> str:
    """Return the date of a time in a zone: `22 Nov 2026`."""
    local = moment_of(value).astimezone(ZoneInfo(zone))
    return f"{local.day} {local:%b %Y}"


def iso(value: datetime | int | float | str) -> str:
    """Return a time in UTC as ISO 8601 text with seconds."""
    return moment_of(value).astimezone(UTC).isoformat(timespec="seconds")


def ago(value: datetime | int | float | str, now: datetime) -> str:
    """Return how long ago a time was, or how far ahead it is, in one unit."""
    gap = int((now - moment_of(value)).total_seconds())
    distance = abs(gap)
    for unit, length in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if distance >= length:
            count = distance // length
            text = f"{count} {unit}{'s' if count > 1 else ''}"
            return f"{text} ago" if gap > 0 else f"in {text}"
    return "just now" if gap >= 0 else "in a moment"


def words(code: str) -> str:
    """Return a snake_case code as text: `in_progress` → `in progress`."""
    return code.replace("_", " ").replace("-", " ")


_LABEL_TITLES = {
    VisibleLabel.NONE: "No visible label",
    VisibleLabel.CORNER_SIGN: "AI sign in a corner",
    VisibleLabel.OPENING_TEXT: "AI生成 at the start (GB 45438-2025)",
    VisibleLabel.EU_ICON: "AI icon (EU)",
}


def label_title(label: str) -> str:
    """Return a visible label as people read it."""
    return _LABEL_TITLES[VisibleLabel(label)]


def field(name: str) -> str:
    """Return the label of a form field: `shots.0.last_frame` → `Shot 1, last frame`."""
    parts = name.split(".")
    if len(parts) > 1 and parts[1].isdecimal():
        parts[:2] = [f"{parts[0].removesuffix('s')} {int(parts[1]) + 1}"]
    text = words(", ".join(parts))
    return text[:1].upper() + text[1:]


def count(number: int, noun: str) -> str:
    """Return a number with its noun: `1 film`, `12 films`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


FILTERS: dict[str, Callable[..., Any]] = {
    "money": money,
    "minor": minor,
    "typed": typed,
    "seconds": seconds,
    "decimals": decimals,
    "size": size,
    "when": when,
    "day": day,
    "iso": iso,
    "ago": ago,
    "label_title": label_title,
    "words": words,
    "count": count,
    "field": field,
}
