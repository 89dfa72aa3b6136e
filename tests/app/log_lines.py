"""The log lines that a test causes, with the ids that they carry."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from app.logs import JsonLines


@contextmanager
def lines_of(*names: str) -> Iterator[list[dict[str, str]]]:
    """Keep the lines of these loggers as they are written, with the ids of the moment."""
    lines: list[dict[str, str]] = []

    class Keeper(logging.Handler):
        def emit(self, entry: logging.LogRecord) -> None:
            lines.append(json.loads(JsonLines("test").format(entry)))

    keeper = Keeper()
    loggers = [logging.getLogger(name) for name in names]
    for logger in loggers:
        logger.addHandler(keeper)
        logger.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        for logger in loggers:
            logger.removeHandler(keeper)
            logger.setLevel(logging.NOTSET)
