"""Moments that admins type: a local date and time, read in the zone of their pages."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from app.errors import AppError


def read_moment(text: str, zone: str, field: str) -> datetime:
    """Return the moment of a `datetime-local` field. Raises AppError `invalid_request`."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))
    except ValueError:
        message = "A moment is written as 2026-12-01T09:00."
        raise AppError("invalid_request", message, field=field, value=text) from None


def read_optional_moment(text: str, zone: str, field: str) -> datetime | None:
    """Return a moment, or None where nothing was typed."""
    return read_moment(text, zone, field) if text else None


def to_local(moment: datetime, zone: str, *, ahead_minutes: int = 0) -> str:
    """Return a moment as a `datetime-local` field wants it."""
    local = moment.astimezone(ZoneInfo(zone)) + timedelta(minutes=ahead_minutes)
    return local.replace(tzinfo=None).isoformat(timespec="minutes")
