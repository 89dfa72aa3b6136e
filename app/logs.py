"""Logging: one line per fact, as text for people or JSON for machines, each with the ids that it concerns.

Lines carry route patterns and ids. They never carry what opens something: tokens of links, keys, passwords, cookies,
and the queries of customers' URLs. Control characters are escaped, so that no text of a stranger can move the cursor
of a terminal or pretend to be a line of its own.
"""

import json
import logging
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from app.settings import get_settings

# The ids that this task or thread works on now: request_id, trace_id, account_id, job_id, take_id, worker_id,
# delivery_id, event_id. The mapping is shared with the threads that a request uses, so that ids which a handler adds
# are on the request's own line.
_IDS: ContextVar[dict[str, str] | None] = ContextVar("cinemeter_ids", default=None)


# Control characters, and the marks that change the direction or the lines of a text.
_CONTROLS = [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_ESCAPES = {number: f"\\u{number:04x}" for number in _CONTROLS}
# In a traceback the ends of lines stay; each line is indented, which none of our own lines is.
_ESCAPES_OF_LINES = {number: escape for number, escape in _ESCAPES.items() if chr(number) not in "\n\t"}
# A public id: it says which object a line concerns, and opens nothing without a key.
_ID = re.compile(r"[a-z]+(?:_[a-z]+)*_[0-9a-z]{20,32}")


def ids_of_path(parameters: Mapping[str, object]) -> dict[str, str]:
    """Return the public ids among a route's path parameters; tokens are left out. A video's id is the job's."""
    ids = {name: value for name, value in parameters.items() if isinstance(value, str) and _ID.fullmatch(value)}
    return {"job_id" if name == "video_id" else name: value for name, value in ids.items()}


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
        # JSON itself escapes the characters below 0x20; the others get the same form.
        return json.dumps(line, ensure_ascii=False).translate(_ESCAPES)


class TextLines(logging.Formatter):
    """Formats each record as a line for people, with its ids at the end."""

    def __init__(self, role: str) -> None:
        super().__init__(f"%(asctime)s %(levelname)-7s {role} %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        ids = " ".join(f"{name}={value}" for name, value in current_ids().items())
        line = super().formatMessage(record)
        return (f"{line} [{ids}]" if ids else line).translate(_ESCAPES)

    def formatException(self, ei: Any) -> str:
        lines = super().formatException(ei).translate(_ESCAPES_OF_LINES)
        return "\n".join(f"  {line}" for line in lines.split("\n"))


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
