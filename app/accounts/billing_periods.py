"""Billing months: calendar months of an account's billing zone, from their first instant up to the next one's."""

from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from app.errors import AppError


def read_zone(name: str, field: str = "billing_zone") -> str:
    """Return the name of a time zone that this machine knows. Raises AppError `invalid_request` with the field."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise AppError(
            "invalid_request", f"{name!r} is not a time zone such as Asia/Shanghai.", field=field, value=name
        ) from None
    return name


def billing_month(zone: str, at: datetime) -> str:
    """Return the month, such as `2026-05`, in which an instant lies in a zone."""
    return at.astimezone(ZoneInfo(zone)).strftime("%Y-%m")


def month_window(zone: str, month: str) -> tuple[datetime, datetime]:
    """Return the first instant of a billing month and the first instant after it (both aware, in the zone).

    Raises AppError `invalid_request` if `month` does not read as YYYY-MM.
    """
    try:
        start = datetime.strptime(month, "%Y-%m").replace(tzinfo=ZoneInfo(zone))
        years, index = divmod(start.month, 12)
        return start, start.replace(year=start.year + years, month=index + 1)
    except ValueError:
        raise AppError("invalid_request", "A month is written as 2026-05.", field="month", value=month) from None
