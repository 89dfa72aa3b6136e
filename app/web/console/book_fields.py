"""The fields of the price book's form: what each one reads and writes in the TOML text, and what is allowed in it."""

import contextlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from app.errors import AppError
from app.web.forms import parse_local_time
from pricing.rate_key import MODES, RESOLUTIONS
from pricing.schema import WrittenFloat

_DECIMAL = re.compile(r"[0-9]{1,10}(\.[0-9]{1,10})?")
_COMMA = re.compile(r"([0-9]{1,10}),([0-9]{1,2})")
# The value of a choice that means every one: the key is then absent from the text.
EVERY = ""
# The same for words that are ticked.
ALL = "*"


@dataclass(frozen=True)
class BookField:
    """One field of a table: its key in the TOML, its label, and in a sentence what is allowed.

    `kind` is text, decimal, whole, moment, words or choice. `options` are those of a choice, and of words that are
    ticked; words without options are typed with commas between them.
    """

    key: str
    label: str
    kind: str
    allowed: str
    required: bool = True
    options: tuple[str, ...] = ()


class FieldError(ValueError):
    """What was typed is not allowed; the message says what is."""


_ID = "Small letters, digits, dots and hyphens, used once in its list."
_NAME = "A name that customers read."
_PRICE = "A price per second with a point, such as 0.90."
_TICKED = "Tick All, or one or more of the others."
_FACTOR = "A factor from 0 to 1 with a point: 0.65 is 35 % off."

RATES = (
    BookField("id", "Rate", "text", _ID),
    BookField(
        "model", "Model", "text", "A model's name, or one with a star: demo, wan2.2-*, *-turbo. Empty: all.", False
    ),
    BookField("resolution", "Resolution", "choice", "One of the resolutions, or all.", False, (EVERY, *RESOLUTIONS)),
    BookField("mode", "Made from", "choice", "One of the modes, or all.", False, (EVERY, *MODES)),
    BookField("audio", "Sound", "choice", "With sound, without it, or both.", False, (EVERY, "true", "false")),
    BookField("per_second", "List price", "decimal", _PRICE),
    BookField("input_per_second", "Price of video that is read", "decimal", f"{_PRICE} Empty: not sold.", False),
)
MEMBERSHIPS = (
    BookField("id", "Id", "text", _ID),
    BookField("title.en", "Name in English", "text", _NAME),
    BookField("title.zh", "Name in Chinese", "text", _NAME),
    BookField("factor", "Factor", "decimal", _FACTOR),
    BookField("share_weight", "Share of the GPUs", "whole", "A whole number from 1 to 1000."),
    BookField("concurrency", "Parallel renders", "whole", "A whole number from 1 to 1000."),
    BookField("queue_limit", "Films in the queue", "whole", "A whole number from 1 to 100000."),
    BookField("retention_days", "Storage, in days", "whole", "A whole number from 1 to 3650."),
    BookField("free_seconds_per_month", "Free seconds a month", "whole", "A whole number from 0 to 1000000."),
    BookField("requests_per_minute", "Requests a minute", "whole", "A whole number from 1 to 1000000."),
    BookField("jobs_per_minute", "Orders a minute", "whole", "A whole number from 1 to 1000000."),
    BookField("storage_gib", "Uploads, in GiB", "whole", "A whole number from 1. Empty: by the share.", False),
)
SERVICE_TIERS = (
    BookField("id", "Tier", "text", _ID),
    BookField("title.en", "Name in English", "text", _NAME),
    BookField("title.zh", "Name in Chinese", "text", _NAME),
    BookField("factor", "Factor", "decimal", "A factor from 0 to 10 with a point: 1.5 is half as much again."),
    BookField("start_within_minutes", "Starts within, min", "whole", "Whole minutes from 1 to 10000, or empty.", False),
    BookField("deadline_hours", "Expires after, h", "whole", "Whole hours from 1 to 1000, or empty.", False),
)
PROMOTIONS = (
    BookField("id", "Promotion", "text", _ID),
    BookField("title.en", "Name in English", "text", _NAME),
    BookField("title.zh", "Name in Chinese", "text", _NAME),
    BookField("factor", "Factor", "decimal", "A factor from 0 to 1 with a point: 0.75 is 25 % off."),
    BookField("priority", "Priority", "whole", "A whole number from 0 to 1000; lower ones apply first."),
    BookField("starts_at", "Starts", "moment", "A date and time, or empty: open.", False),
    BookField("ends_at", "Ends", "moment", "A date and time after the start, or empty: open.", False),
    BookField("memberships", "Memberships", "words", _TICKED, False),
    BookField("models", "Models", "words", "Names with commas between them, such as demo, *-turbo. Empty: all.", False),
    BookField("resolutions", "Resolutions", "words", _TICKED, False, RESOLUTIONS),
    BookField("modes", "Made from", "words", _TICKED, False, MODES),
    BookField("service_tiers", "Service tiers", "words", _TICKED, False),
    BookField("cap_per_account", "Most per account", "decimal", "An amount such as 100.00, or empty: no limit.", False),
    BookField("budget", "Total budget", "decimal", "An amount such as 5000.00, or empty: no limit.", False),
)
BOOK = (
    BookField("name", "Short name", "text", _ID),
    BookField("title.en", "Name in English", "text", _NAME),
    BookField("title.zh", "Name in Chinese", "text", _NAME),
    BookField("tax_rate", "Tax in the prices", "decimal", "A share from 0 to 1 with a point: 0.06 is 6 %."),
)
TABLES: dict[str, tuple[BookField, ...]] = {
    "rates": RATES,
    "memberships": MEMBERSHIPS,
    "service_tiers": SERVICE_TIERS,
    "promotions": PROMOTIONS,
}
_TYPES: dict[str, tuple[type, ...]] = {
    "text": (str,),
    # A whole number may stand without quotes.
    "decimal": (str, int),
    "whole": (int,),
    # What is no moment is shown as an empty field, and stays as it is.
    "moment": (object,),
    "words": (list,),
    "choice": (str, bool),
}
# Words whose options are the ids of another table of the same book.
REFERENCES = ("memberships", "service_tiers")


def has_right_type(field: BookField, value: Any) -> bool:
    """Return whether a value of the TOML text has the type of its field, or is absent."""
    return value is None or (isinstance(value, _TYPES[field.kind]) and not isinstance(value, WrittenFloat))


def typed_value(field: BookField, value: Any, zone: str) -> str:
    """Return a value of the TOML text as the field shows it; a moment in the visitor's zone."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if field.kind == "moment":
        return _moment_text(value, zone)
    return EVERY if field.kind in ("choice", "text") and value == "*" else str(value)


def _moment_text(value: Any, zone: str) -> str:
    """Return a moment as the value of a `datetime-local` field; empty for what is none, which then stays as it is."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = datetime.fromisoformat(value)
    if not isinstance(value, datetime) or value.utcoffset() is None:
        return ""
    local = value.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    return local.isoformat(timespec="seconds" if local.second else "minutes")


def parse_typed(field: BookField, text: str, zone: str) -> Any:
    """Return the value of a field's text for the TOML; None removes the key. Raises FieldError."""
    if not text:
        if field.required:
            raise FieldError(field.allowed)
        return None
    return _PARSERS[field.kind](field, text, zone)


def ticked_words(value: Any) -> list[str]:
    """Return the boxes that are ticked for a value of the TOML text: ALL where the key is absent."""
    return [ALL] if value is None else [str(word) for word in value] if isinstance(value, list) else []


def parse_ticked(words: Sequence[str]) -> list[str] | None:
    """Return ticked words for the TOML; None, which is all, for ALL.

    Raises FieldError where none is ticked, or another one beside ALL: that would widen a promotion unnoticed.
    """
    if not words:
        raise FieldError(_TICKED)
    if ALL in words and len(words) > 1:
        raise FieldError("All is ticked beside others. Untick All, or the others.")
    return None if ALL in words else list(words)


def _decimal(field: BookField, text: str, zone: str) -> str:
    if comma := _COMMA.fullmatch(text):
        raise FieldError(f"Write {comma[1]}.{comma[2]}, with a point before the decimals.")
    if not _DECIMAL.fullmatch(text):
        raise FieldError(field.allowed)
    return text


def _whole(field: BookField, text: str, zone: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise FieldError(field.allowed)
    return int(text)


def _moment(field: BookField, text: str, zone: str) -> datetime:
    try:
        return parse_local_time(text, zone, field.key)
    except AppError:
        raise FieldError(field.allowed) from None


def _words(field: BookField, text: str, zone: str) -> list[str] | None:
    return [word.strip() for word in text.split(",") if word.strip()] or None


def _choice(field: BookField, text: str, zone: str) -> str | bool:
    if text not in field.options:
        raise FieldError(field.allowed)
    return text == "true" if text in ("true", "false") else text


def _plain(field: BookField, text: str, zone: str) -> str:
    return text


_PARSERS: dict[str, Callable[[BookField, str, str], Any]] = {
    "text": _plain,
    "decimal": _decimal,
    "whole": _whole,
    "moment": _moment,
    "words": _words,
    "choice": _choice,
}
