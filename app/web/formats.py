"""Template filters for money, times, durations and sizes. Amounts are decimal strings or integer minor units."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal
from zoneinfo import ZoneInfo

from babel.dates import format_date, format_datetime, format_skeleton, format_time, format_timedelta
from babel.numbers import format_currency

from app.provenance.label_policy import LABEL_TITLES, VisibleLabel
from app.reports.translations import decimals
from app.web.language import DEFAULT, gettext, language, translate, translate_count
from pricing.money import Money

_SYMBOLS = {"CNY": "¥", "USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥", "HKD": "HK$"}
_UNITS: tuple[tuple[Literal["day", "hour", "minute"], int], ...] = (("day", 86_400), ("hour", 3600), ("minute", 60))
# A typographic minus sign, and a non-breaking space between a number and its unit.
_MINUS, _SPACE = "\u2212", "\u00a0"


def money(amount: str | Decimal, currency: str) -> str:
    """Return a decimal amount with its symbol: `¥4.39`, `−¥1.58`; outside of English as CLDR writes it."""
    if language() != DEFAULT:
        return format_currency(Decimal(amount), currency, locale=language(), decimal_quantization=False)
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
        return f"{text.rstrip('0').rstrip('.') if '.' in text else text}{_SPACE}{gettext('s')}"
    total = int(value)
    hours, rest = divmod(total, 3600)
    minutes, left = divmod(rest, 60)
    parts = [(hours, gettext("h")), (minutes, gettext("min")), (0 if hours else left, gettext("s"))]
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
    name = language()
    if name == DEFAULT:
        text = format_datetime(local, f"d MMM y, HH:mm{':ss' if exact else ''}", locale=name)
    else:
        text = f"{format_date(local, locale=name)} {format_time(local, 'medium' if exact else 'short', locale=name)}"
    return f"{text} {local:%Z}" if exact else text


def day(value: datetime | int | float | str, zone: str) -> str:
    """Return the date of a time in a zone: `22 Nov 2026`."""
    local = moment_of(value).astimezone(ZoneInfo(zone))
    return format_date(local, "d MMM y" if language() == DEFAULT else "medium", locale=language())


def month_day(value: date) -> str:
    """Return a date without its year, for the axis of a chart: `22 Nov`."""
    return format_skeleton("MMMd", value, locale=language()) if language() != DEFAULT else f"{value.day} {value:%b}"


def iso(value: datetime | int | float | str) -> str:
    """Return a time in UTC as ISO 8601 text with seconds."""
    return moment_of(value).astimezone(UTC).isoformat(timespec="seconds")


def ago(value: datetime | int | float | str, now: datetime) -> str:
    """Return how long ago a time was, or how far ahead it is, in one unit."""
    gap = int((now - moment_of(value)).total_seconds())
    distance = abs(gap)
    for unit, length in _UNITS:
        if distance >= length:
            count = distance // length
            if language() != DEFAULT:
                span = timedelta(seconds=count * length if gap < 0 else -count * length)
                return format_timedelta(span, granularity=unit, threshold=1, add_direction=True, locale=language())
            text = f"{count} {unit}{'s' if count > 1 else ''}"
            return f"{text} ago" if gap > 0 else f"in {text}"
    return gettext("just now") if gap >= 0 else gettext("in a moment")


def words(code: str) -> str:
    """Return a snake_case code as text: `in_progress` → `in progress`."""
    return translate(code.replace("_", " ").replace("-", " "))


def code(name: str) -> str:
    """Return a snake_case name of stored facts as text, in English like the facts: `content_hash` → `content hash`."""
    return name.replace("_", " ").replace("-", " ")


def label_title(label: str) -> str:
    """Return a visible label as people read it."""
    return translate(LABEL_TITLES[VisibleLabel(label)])


def field(name: str) -> str:
    """Return the label of a form field: `shots.0.last_frame` → `Shot 1, last frame`."""
    parts = name.split(".")
    if len(parts) > 1 and parts[1].isdecimal():
        parts[:2] = [f"{words(parts[0].removesuffix('s'))} {int(parts[1]) + 1}"]
    text = gettext(", ").join(words(part) for part in parts)
    return text[:1].upper() + text[1:]


def count(number: int, noun: str) -> str:
    """Return a number with its noun: `1 film`, `12 films`."""
    text = translate_count(f"%(number)s {noun}", f"%(number)s {noun}s", number)
    return text % {"number": f"{number:,}"}


FILTERS: dict[str, Callable[..., Any]] = {
    "money": money,
    "minor": minor,
    "typed": typed,
    "seconds": seconds,
    "decimals": decimals,
    "size": size,
    "when": when,
    "day": day,
    "month_day": month_day,
    "translated": translate,
    "iso": iso,
    "ago": ago,
    "label_title": label_title,
    "words": words,
    "code": code,
    "count": count,
    "field": field,
}
