"""Types of the fields of orders: text that can be stored, lengths, seeds and money."""

from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

PROMPT_MAX = 5000
SHOTS_MAX = 50
SECONDS_MAX = 600
METADATA_MAX = 16
# Films of one order, of the same kind and with a seed each.
FILMS_MAX = 10


def _no_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("text may hold any character but NUL (U+0000)")
    return text


# These are stored as JSON; the database refuses NUL there and in text.
_STORABLE = AfterValidator(_no_nul)
Prompt = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=PROMPT_MAX), _STORABLE]
NegativePrompt = Annotated[str, StringConstraints(max_length=PROMPT_MAX), _STORABLE]
MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=64), _STORABLE]
MetadataValue = Annotated[str, StringConstraints(max_length=512), _STORABLE]
Seconds = Annotated[int, Field(ge=1, le=SECONDS_MAX)]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]


def _no_float(value: Any) -> Any:
    if isinstance(value, float):
        raise ValueError("money is a decimal string such as '2.50'; a number with a point would be a float")
    return value


# Money in requests: a decimal string, or whole units as an integer; a float is refused by its type.
MoneyIn = Annotated[Decimal, BeforeValidator(_no_float), Field(ge=0, max_digits=14, decimal_places=2)]


# A gain in a mix, in decibels.
Gain = Annotated[Decimal, Field(ge=-60, le=12, decimal_places=2)]


def in_one_order(content: Any) -> Any:
    """Return JSON content with all keys in alphabetical order, so that equal bodies are equal bytes.

    The database keeps JSON with its keys in an order of its own: a job just made would differ from one that was read.
    """
    if isinstance(content, dict):
        return {name: in_one_order(inner) for name, inner in sorted(content.items())}
    return [in_one_order(inner) for inner in content] if isinstance(content, list) else content


Facts = Annotated[dict[str, Any], AfterValidator(in_one_order)]
