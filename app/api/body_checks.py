"""Checks of a body's bytes before anything parses it, so that no parser is given work out of proportion.

A parser in C holds the interpreter's lock for as long as it runs, in whatever thread. So the amount of what is parsed
is bounded here, by passes that run at the speed of memory.
"""

import re

from app.errors import AppError

# JSON without the contents of its data URLs and of bare base64. A storyboard of fifty shots has about 30 KiB.
JSON_BYTES_MAX = 256 * 1024
# Fields and elements of a JSON body, and fields of a urlencoded form.
VALUES_MAX = 5_000
FIELDS_MAX = 1_000
# A shorter data URL counts as text, so that their number is bounded too.
_DATA_URL_BYTES_MIN = 1024
_DATA_URL = b"data:"
# What base64 consists of, and the escapes of its slashes. Some clients send pictures without the head of a data URL.
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\\"
# Of a data URL's characters at most this share may be escaped; some clients write each slash of base64 as `\/`.
_ESCAPED_SHARE_MAX = 1 / 32
# A string, or the rest of the body after the opening of one that never ends.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.|\\\Z)*+(?:"|\Z)', re.DOTALL)


def check_json(raw: bytes) -> None:
    """Check that a JSON body can be parsed quickly.

    Raises AppError `body_too_large` for too many bytes outside of data URLs or too many values, and `invalid_json` for
    an encoding other than UTF-8.
    """
    if b"\0" in raw or raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise AppError("invalid_json", "The body is not valid JSON: it must be encoded as UTF-8, without NUL.")
    text = raw if len(raw) <= JSON_BYTES_MAX else _without_data_urls(raw)
    if _count_values(text) > VALUES_MAX and _count_values(_STRING.sub(b"", text)) > VALUES_MAX:
        message = f"The body has more than {VALUES_MAX} fields and values."
        raise AppError("body_too_large", message, allowed=VALUES_MAX)


def check_form(raw: bytes) -> None:
    """Check that a urlencoded form can be parsed quickly. Raises AppError `body_too_large` for too many fields."""
    if raw.count(b"&") + raw.count(b";") >= FIELDS_MAX:
        raise AppError("body_too_large", f"The form has more than {FIELDS_MAX} fields.", allowed=FIELDS_MAX)


def _count_values(text: bytes) -> int:
    """Return an upper bound of the values in JSON text: what opens one or stands between two."""
    return sum(text.count(mark) for mark in (b",", b"[", b"{"))


def _without_data_urls(raw: bytes) -> bytes:
    """Return JSON text without its data URLs and bare base64. Raises AppError `body_too_large` if much remains."""
    parts: list[bytes] = []
    start = remaining = 0
    while start < len(raw):
        opening = raw.find(b'"', start)
        end = len(raw) if opening < 0 else opening
        remaining += end - start
        if remaining > JSON_BYTES_MAX:
            message = f"Without its data URLs the body is larger than {JSON_BYTES_MAX} bytes."
            raise AppError("body_too_large", message, allowed=JSON_BYTES_MAX)
        parts.append(raw[start:end])
        if opening < 0:
            break
        closing = raw.find(b'"', opening + 1)
        is_long = closing - opening > _DATA_URL_BYTES_MIN and raw[opening - 1 : opening] != b"\\"
        is_file = is_long and _is_file(raw[opening + 1 : closing])
        # What is no file is text up to its next character.
        start = closing + 1 if is_file else opening + 1
        parts.append(b"0" if is_file else b'"')
        remaining += 1
    return b"".join(parts)


def _is_file(text: bytes) -> bool:
    """Return whether a long string is a data URL or base64, and is decoded without work for each of its characters."""
    escaped = text.count(b"\\")
    return (
        text.isascii()
        and escaped == text.count(b"\\/")
        and escaped <= len(text) * _ESCAPED_SHARE_MAX
        and (text.startswith(_DATA_URL) or not text.translate(None, _BASE64))
    )
