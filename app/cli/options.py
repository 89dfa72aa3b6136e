"""Options that several commands share."""

from datetime import datetime
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from app.errors import AppError
from app.settings import get_settings

Home = Annotated[
    Path | None, typer.Option(help="Folder of embedded servers, files and keys.", show_default=".cinemeter")
]


def parse_choice(home: Path | None) -> Path:
    """Return the home that a command works on: the option's, else the setting's."""
    return (home or get_settings().home).absolute()


def parse_time(text: str) -> datetime:
    """Return the moment that `text` says; without an offset it is meant in the billing zone.

    Raises AppError `invalid_request`.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        message = f"{text!r} is no moment; write it as 2026-12-01T00:00 or 2026-12-01T00:00+08:00."
        raise AppError("invalid_request", message, field="effective_at") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(get_settings().billing_zone))
