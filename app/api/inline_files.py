"""Files inside a body as base64 without the head of a data URL, as some clients send pictures."""

import re

# An id of an asset is shorter; so are the smallest pictures that are accepted.
_CHARACTERS_MIN = 128
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")


def as_data_url(text: str) -> str:
    """Return bare base64 as a data URL, and any other text as it is. The file itself decides what it is."""
    if len(text) < _CHARACTERS_MIN:
        return text
    # Line breaks are removed before the text is matched: a pattern that allows them in two places is quadratic.
    data = "".join(text.split())
    return f"data:;base64,{data}" if _BASE64.fullmatch(data) else text
