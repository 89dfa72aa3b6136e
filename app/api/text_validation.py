"""Parse JSON bodies, and reject text that cannot be stored or returned: NUL characters and lone surrogates."""

import json
import re
from collections.abc import Callable
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool

from app.api.body_checks import JSON_BYTES_MAX
from app.errors import AppError

Parsed = TypeVar("Parsed")

_INVALID = re.compile(r"[\x00\ud800-\udfff]")


def parse_json_object(raw: bytes) -> dict[str, Any]:
    """Return the JSON object in a body.

    Numbers with a fraction are kept as text, so that no price is ever a float. Raises AppError `invalid_json`, and
    `invalid_request` for text that cannot be stored.
    """
    try:
        values = json.loads(raw, parse_float=str)
    except (ValueError, RecursionError) as error:
        raise AppError("invalid_json", f"The body is not valid JSON: {error}.") from error
    if not isinstance(values, dict):
        raise AppError("invalid_json", "The body must be a JSON object.")
    require_text(values)
    return values


async def parse_large(parse: Callable[[bytes], Parsed], raw: bytes) -> Parsed:
    """Return what `parse` makes of a body, in a thread where the body is large. Raises as `parse` does."""
    return await run_in_threadpool(parse, raw) if len(raw) > JSON_BYTES_MAX else parse(raw)


def require_text(values: dict[str, Any]) -> None:
    """Check that every text and field name in a body can be stored.

    Raises AppError `invalid_request`, naming the field by its path (`metadata.scene`, `shots.0.prompt`).
    """
    pending: list[tuple[str, Any]] = [("", values)]
    # Not recursive: JSON may be nested deeper than Python's call stack allows.
    while pending:
        path, value = pending.pop()
        if isinstance(value, str) and _is_invalid(value):
            raise _invalid_text(path)
        if isinstance(value, dict):
            invalid_name = next((name for name in value if _is_invalid(name)), None)
            if invalid_name is not None:
                raise _invalid_text(_join(path, invalid_name))
            pending += [(_join(path, name), each) for name, each in value.items()]
        elif isinstance(value, list):
            pending += [(_join(path, str(number)), each) for number, each in enumerate(value)]


def _is_invalid(text: str) -> bool:
    # A data URL is ASCII and has millions of characters, which the regular expression would visit one by one.
    return "\0" in text if text.isascii() else _INVALID.search(text) is not None


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _invalid_text(path: str) -> AppError:
    # The path may contain the invalid characters itself, so they are escaped in the response.
    field = path.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
    message = "Text must not contain NUL (U+0000) or unpaired surrogates."
    return AppError("invalid_request", message, field=field)
