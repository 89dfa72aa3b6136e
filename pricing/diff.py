"""What changed between two price books, or two contracts: sentences per entry, and prices per second."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Any

from pricing.book import PriceBook, PriceError
from pricing.contract import Contract
from pricing.exact import exact_number, exact_text
from pricing.price import per_second
from pricing.rate import Rate
from pricing.rate_key import RateKey
from pricing.usage import Customer, Usage

# The lists of a document, what one entry of each is called, and the key that names an entry.
_LISTS = {
    "rates": ("rate", "id"),
    "memberships": ("membership", "id"),
    "promotions": ("promotion", "id"),
    "service_tiers": ("service tier", "id"),
    "examples": ("example", "name"),
}


@dataclass(frozen=True, slots=True)
class Change:
    """One difference: `path` (`rates.list-720p.per_second`), the two values as text (None = absent), and a sentence.

    `percent` is the change of a number in per cent with a sign (`-11.11`), None where it has no meaning.
    """

    path: str
    before: str | None
    after: str | None
    percent: str | None
    words: str


@dataclass(frozen=True, slots=True)
class Figure:
    """The exact price of one second for one membership where one rate applies; None = not sold there."""

    membership: str
    key: RateKey
    before: Fraction | None
    after: Fraction | None

    @property
    def percent(self) -> str | None:
        """The change in per cent, with a sign."""
        return None if self.before is None or self.after is None else _percent(self.before, self.after)


def diff(old: PriceBook | Contract, new: PriceBook | Contract) -> tuple[Change, ...]:
    """Return every difference between two books, or two contracts, in the order of the documents."""
    before, after = old.content(), new.content()
    changes: list[Change] = []
    for key in dict.fromkeys([*before, *after]):
        if key in _LISTS:
            changes += _list_changes(key, before.get(key, []), after.get(key, []))
        else:
            changes += _changes(key, key.replace("_", " "), before.get(key), after.get(key))
    return tuple(changes)


def _list_changes(key: str, before: list[dict[str, Any]], after: list[dict[str, Any]]) -> list[Change]:
    noun, name = _LISTS[key]
    olds, news = {item[name]: item for item in before}, {item[name]: item for item in after}
    changes: list[Change] = []
    for entry in dict.fromkeys([*olds, *news]):
        path, subject = f"{key}.{entry}", f"{noun} {entry}"
        if entry not in news:
            changes.append(Change(path, _shown(olds[entry]), None, None, f"{subject} is removed"))
        elif entry not in olds:
            changes.append(Change(path, None, _shown(news[entry]), None, f"{subject} is new: {_shown(news[entry])}"))
        else:
            for part in dict.fromkeys([*olds[entry], *news[entry]]):
                words = f"{subject}: {part.replace('_', ' ')}"
                changes += _changes(f"{path}.{part}", words, olds[entry].get(part), news[entry].get(part))
    return changes


def _changes(path: str, subject: str, before: Any, after: Any) -> list[Change]:
    if before == after:
        return []
    old, new = (None if value is None else _shown(value) for value in (before, after))
    if old is None:
        return [Change(path, old, new, None, f"{subject} is now set: {new}")]
    if new is None:
        return [Change(path, old, new, None, f"{subject} is no longer set, it was {old}")]
    percent = _percent_of(before, after)
    return [Change(path, old, new, percent, f"{subject} from {old} to {new}" + (f" ({percent} %)" if percent else ""))]


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return ", ".join(f"{key.replace('_', ' ')} {_shown(item)}" for key, item in value.items())
    return ", ".join(map(_shown, value)) if isinstance(value, list) else str(value)


def _percent_of(before: Any, after: Any) -> str | None:
    if isinstance(before, bool) or isinstance(after, bool):
        return None
    try:
        return _percent(exact_number(str(before)), exact_number(str(after)))
    except ValueError:
        return None


def _percent(before: Fraction, after: Fraction) -> str | None:
    if not before:
        return None
    hundredths = round((after - before) / before * 10_000)
    return f"{'-' if hundredths < 0 else '+'}{abs(hundredths) // 100}.{abs(hundredths) % 100:02d}"


def figures(old: PriceBook, new: PriceBook, at: datetime) -> tuple[Figure, ...]:
    """Return the exact price per second at one moment, for each membership and each film that a rate prices.

    Caps of promotions count as unspent: the figure is that of a first second.
    """
    rows = []
    for key in sample_keys((*old.rates, *new.rates)):
        for membership in dict.fromkeys([*old.memberships, *new.memberships]):
            before, after = (_second(book, key, membership, at) for book in (old, new))
            rows.append(Figure(membership, key, before, after))
    return tuple(rows)


def sample_keys(rates: Iterable[Rate]) -> tuple[RateKey, ...]:
    """Return films that stand for all that the rates price, each once. See `RatePattern.sample_keys`."""
    return tuple(dict.fromkeys(key for rate in rates for key in rate.pattern.sample_keys()))


def _second(book: PriceBook, key: RateKey, membership: str, at: datetime) -> Fraction | None:
    try:
        return per_second(book, Usage(key, Fraction(1)), Customer(membership), at)
    except PriceError:
        return None


def figure_text(amount: Fraction | None) -> str:
    """Return a figure as text, a dash where nothing is sold."""
    return "–" if amount is None else exact_text(amount)
