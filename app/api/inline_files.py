"""Files inside a body as base64 without the head of a data URL, as some clients send pictures."""

import re

# An id of an asset is shorter; so are the smallest pictures that are accepted.
_CHARACTERS_MIN = 128
_BASE64 = re.compile(r"[A-Za-z0-9+/\r\n]+={0,2}\s*")


def as_data_url(text: str) -> str:
    """Return bare base64 as a data URL, and any other text as it is. The file itself decides what it is."""
    if len(text) < _CHARACTERS_MIN or not _BASE64.fullmatch(text):
        return text
    return "data:;base64," + re.sub(r"\s", "", text)
