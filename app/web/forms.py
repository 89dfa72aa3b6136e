"""Parse form fields, and fill a rejected form again with what was typed into it."""

import re
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from starlette.datastructures import FormData

from app.errors import AppError
from app.web.auth import text_of, texts_of
from pricing.money import Money

# `1,234.50`; and `12,5`, which is refused with `12.50` as the way to write it.
_THOUSANDS = re.compile(r"-?[1-9][0-9]{0,2}(,[0-9]{3})+(\.[0-9]+)?")
_DECIMAL_COMMA = re.compile(r"(-?[0-9]{1,15}),([0-9]{1,2})")


@dataclass(frozen=True)
class SubmittedForm:
    """A submitted form, or none. On a page with several forms, `form_id` names the one that was submitted."""

    form: FormData | None = None
    form_id: str = ""

    def text(self, name: str, default: object = "", *, of: str = "") -> object:
        """Return a field's value: what was typed, else the default. `of` is the id of the form that is drawn."""
        return default if self.form is None or of != self.form_id else text_of(self.form, name)

    def has(self, name: str, value: object, default: bool = False, *, of: str = "") -> bool:
        """Return whether a box is ticked or an option selected."""
        return default if self.form is None or of != self.form_id else str(value) in texts_of(self.form, name)


NO_FORM = SubmittedForm()


def parse_form_amount(text: str, currency: str, field: str, *, minimum: int = 0) -> int:
    """Parse a typed amount into minor units; a leading currency symbol and commas between thousands are ignored.

    A comma anywhere else is refused: half of the world writes 12,5 for 12.50.

    Raises AppError `invalid_request` when the text is not an amount or is below `minimum` (minor units).
    """
    plain = text.strip().lstrip("¥$€£ ").strip()
    if _THOUSANDS.fullmatch(plain):
        plain = plain.replace(",", "")
    try:
        minor = Money.parse(plain, currency).minor
    except ValueError:
        raise AppError("invalid_request", _not_an_amount(text, plain), field=field, value=text) from None
    if minor < minimum:
        minimum_text = Money(minimum, currency).text
        raise AppError("invalid_request", f"The amount must be at least {minimum_text}.", field=field, value=text)
    return minor


def _not_an_amount(text: str, plain: str) -> str:
    """Return the message for a text that is no amount, with what to write instead."""
    decimal = _DECIMAL_COMMA.fullmatch(plain)
    if decimal is None:
        return f"{text!r} is not an amount. Write it as 100 or 99.50."
    whole, part = decimal.groups()
    return f"{text!r} is not an amount. Write {whole}.{part:<02}, with a point before the decimals."


def parse_optional_amount(text: str, currency: str, field: str) -> int | None:
    """Parse an amount, or return None for an empty field. Raises AppError `invalid_request`."""
    return parse_form_amount(text, currency, field) if text else None


def parse_local_time(text: str, zone: str, field: str) -> datetime:
    """Parse a `datetime-local` field in a time zone. Raises AppError `invalid_request`."""
    try:
        local = datetime.fromisoformat(text)
        if local.tzinfo is not None:
            raise ValueError("a field of local time with an offset")
        return local.replace(tzinfo=ZoneInfo(zone))
    except ValueError:
        message = "Not a date and time. Write it as 2026-12-01T09:00."
        raise AppError("invalid_request", message, field=field, value=text) from None


def parse_optional_local_time(text: str, zone: str, field: str) -> datetime | None:
    """Parse a local time, or return None for an empty field. Raises AppError `invalid_request`."""
    return parse_local_time(text, zone, field) if text else None


def parse_day(text: str, zone: str, field: str, *, days: int = 0) -> datetime | None:
    """Return the start of a typed day in a zone, some days later; None for an empty field.

    Raises AppError `invalid_request`.
    """
    if not text:
        return None
    try:
        return datetime.combine(date.fromisoformat(text) + timedelta(days=days), time(), ZoneInfo(zone))
    except (ValueError, OverflowError):
        raise AppError("invalid_request", "Write the day as 2026-12-31.", field=field, value=text) from None


def to_local(moment: datetime, zone: str, *, ahead_minutes: int = 0) -> str:
    """Return a time as the value of a `datetime-local` field, moved ahead by some minutes."""
    local = moment.astimezone(ZoneInfo(zone)) + timedelta(minutes=ahead_minutes)
    return local.replace(tzinfo=None).isoformat(timespec="minutes")
