"""What was typed into a form that was refused: the same page comes again, and nothing has to be typed twice."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from starlette.datastructures import FormData

from app.errors import AppError
from app.web.auth import text_of, texts_of
from pricing.money import Money


@dataclass(frozen=True)
class SubmittedForm:
    """A form as it was sent, or none. On a page with several forms, `place` names the one that was sent."""

    form: FormData | None = None
    place: str = ""

    def text(self, name: str, default: object = "", *, of: str = "") -> object:
        """Return what stands in a field: what was typed, or else what the page starts with."""
        return default if self.form is None or of != self.place else text_of(self.form, name)

    def has(self, name: str, value: object, default: bool = False, *, of: str = "") -> bool:
        """Say whether a box is ticked, or a choice made."""
        return default if self.form is None or of != self.place else str(value) in texts_of(self.form, name)


NO_FORM = SubmittedForm()


def parse_form_amount(text: str, currency: str, field: str, *, least: int = 0) -> int:
    """Return an amount that was typed, in minor units; a thousands comma and a currency sign are let pass.

    Raises AppError `invalid_request` for what is no amount, or is below `least`.
    """
    plain = text.replace(",", "").lstrip("¥$€£ ").strip()
    try:
        minor = Money.parse(plain, currency).minor
    except ValueError:
        message = f"{text!r} is no amount such as 100 or 99.50."
        raise AppError("invalid_request", message, field=field, value=text) from None
    if minor < least:
        floor = Money(least, currency).text
        raise AppError("invalid_request", f"The amount is at least {floor}.", field=field, value=text)
    return minor


def parse_optional_amount(text: str, currency: str, field: str) -> int | None:
    """Return an amount, or None where nothing was typed."""
    return parse_form_amount(text, currency, field) if text else None


def parse_local_time(text: str, zone: str, field: str) -> datetime:
    """Return the moment of a `datetime-local` field. Raises AppError `invalid_request`."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))
    except ValueError:
        message = "A moment is written as 2026-12-01T09:00."
        raise AppError("invalid_request", message, field=field, value=text) from None


def parse_optional_local_time(text: str, zone: str, field: str) -> datetime | None:
    """Return a moment, or None where nothing was typed."""
    return parse_local_time(text, zone, field) if text else None


def to_local(moment: datetime, zone: str, *, ahead_minutes: int = 0) -> str:
    """Return a moment as a `datetime-local` field wants it."""
    local = moment.astimezone(ZoneInfo(zone)) + timedelta(minutes=ahead_minutes)
    return local.replace(tzinfo=None).isoformat(timespec="minutes")
