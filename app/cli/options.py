"""Options that several commands share."""

from datetime import datetime
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from app.errors import AppError
from app.settings import get_settings

Home = Annotated[
    Path | None, typer.Option(help="Folder of the embedded servers, files and keys.", show_default=".cinemeter")
]


def home_folder(home: Path | None) -> Path:
    """Return the home of a command: that of the option, else that of the setting."""
    return (home or get_settings().home).absolute()


def parse_time(text: str) -> datetime:
    """Parse an ISO 8601 time. Without an offset it is in the billing zone.

    Raises AppError `invalid_request`.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        message = f"{text!r} is not a time. Write it as 2026-12-01T00:00 or 2026-12-01T00:00+08:00."
        raise AppError("invalid_request", message, field="effective_at") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(get_settings().billing_zone))
