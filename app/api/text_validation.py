"""Text that can be stored and answered with: neither NUL, which no database row holds, nor half of a character."""

import re
from typing import Any

from app.errors import AppError

_WRONG = re.compile(r"[\x00\ud800-\udfff]")


def require_text(values: dict[str, Any]) -> None:
    """Refuse values of a body whose text, or whose names of fields, cannot be stored.

    Raises AppError `invalid_request`, naming the field by its place (`metadata.scene`, `shots.0.prompt`).
    """
    pending: list[tuple[str, Any]] = [("", values)]
    # Not by recursion: JSON may be nested deeper than calls may be.
    while pending:
        path, value = pending.pop()
        if isinstance(value, str) and _WRONG.search(value):
            raise _refused(path)
        if isinstance(value, dict):
            wrong = next((name for name in value if _WRONG.search(name)), None)
            if wrong is not None:
                raise _refused(_join(path, wrong))
            pending += [(_join(path, name), each) for name, each in value.items()]
        elif isinstance(value, list):
            pending += [(_join(path, str(number)), each) for number, each in enumerate(value)]


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _refused(path: str) -> AppError:
    # The place may be a wrong name itself, and is answered with what can be written of it.
    field = path.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
    message = "Text may hold any character but NUL (U+0000) and halves of surrogate pairs."
    return AppError("invalid_request", message, field=field)
