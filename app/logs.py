"""Logging: one line per fact, as text for people or JSON for machines, each with the ids that it concerns."""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from app.settings import get_settings

# The ids that this task or thread works on now: request_id, job_id, take_id, delivery_id. The mapping is shared with
# the threads that a request uses, so that ids which a handler adds are on the request's own line.
_IDS: ContextVar[dict[str, str] | None] = ContextVar("cinemeter_ids", default=None)


@contextmanager
def bind_log_ids(**ids: str) -> Iterator[None]:
    """Add these ids to every line that is logged inside the block, besides those of outer blocks."""
    token = _IDS.set({**(_IDS.get() or {}), **ids})
    try:
        yield
    finally:
        _IDS.reset(token)


def add_log_ids(**ids: str) -> None:
    """Add further ids to the lines of the current block from here on; outside any block this does nothing."""
    ids_of_block = _IDS.get()
    if ids_of_block is not None:
        ids_of_block.update(ids)


def current_ids() -> dict[str, str]:
    """Return the ids of the current block."""
    return dict(_IDS.get() or {})


class JsonLines(logging.Formatter):
    """Formats each record as one JSON object."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self.role = role

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname,
            "role": self.role,
            "logger": record.name,
            "message": record.getMessage(),
            **current_ids(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class TextLines(logging.Formatter):
    """Formats each record as a line for people, with its ids at the end."""

    def __init__(self, role: str) -> None:
        super().__init__(f"%(asctime)s %(levelname)-7s {role} %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        ids = " ".join(f"{name}={value}" for name, value in current_ids().items())
        line = super().formatMessage(record)
        return f"{line} [{ids}]" if ids else line


def set_up_logs(role: str) -> None:
    """Send the logs of this process to stderr, in the configured format."""
    settings = get_settings()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(role) if settings.log_format == "json" else TextLines(role))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    # Log warnings of libraries like any other line, not as bare text.
    logging.captureWarnings(True)
    # These log every request at INFO, which adds nothing to our own lines.
    for name in ("opentelemetry", "botocore", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING)
