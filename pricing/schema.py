"""Read tables of plain values strictly: each problem names its path, the error and the allowed values.

The same reader takes TOML tables (written by people) and canonical JSON (written by us), so that stored
documents are checked like new ones. It collects every problem instead of stopping at the first.
"""

import contextlib
import difflib
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple, TypeVar

from pricing.exact import exact_number

Document = TypeVar("Document")
Choice = TypeVar("Choice", bound=str)

_DECIMAL = re.compile(r"[0-9]{1,10}(\.[0-9]{1,10})?")
IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class Problem(NamedTuple):
    """One thing that is wrong in a document: where (`rates[2].per_second`), and a sentence that says what."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class BookError(ValueError):
    """A price book or contract that does not follow the schema; `problems` lists everything that is wrong."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = list(problems)


class WrittenFloat(str):
    """A TOML number with a decimal point, kept as it was written so that the refusal can quote it."""


def read_toml(text: str) -> dict[str, Any]:
    """Parse TOML without ever making a float. Raises BookError with the line when it is not TOML."""
    try:
        return tomllib.loads(text, parse_float=WrittenFloat)
    except tomllib.TOMLDecodeError as error:
        raise BookError([Problem("", f"not valid TOML: {error}")]) from None


def _shown(value: object) -> str:
    if isinstance(value, WrittenFloat):
        return f"the bare number {str.__str__(value)}"
    words = {bool: "a boolean", int: "a number", str: "text", dict: "a table", list: "a list"}
    name = words.get(type(value), f"a {type(value).__name__}")
    return f"{name} ({value!r})" if isinstance(value, bool | int | str) else name


class Table:
    """One table of the document under strict reading. Wrong values are reported and replaced by a default."""

    def __init__(self, values: object, path: str, problems: list[Problem]) -> None:
        self.path = path
        self.problems = problems
        self._known_keys: list[str] = []
        if not isinstance(values, Mapping):
            problems.append(Problem(path, f"must be a table, not {_shown(values)}"))
            values = {}
        self.values: Mapping[str, Any] = values

    def at(self, key: str) -> str:
        """Return the path of `key` in this table."""
        return f"{self.path}.{key}" if self.path else key

    def wrong(self, key: str, message: str) -> None:
        """Report a problem at `key`."""
        self.problems.append(Problem(self.at(key), message))

    def _value(self, key: str, *, required: bool, expected: str) -> Any:
        self._known_keys.append(key)
        if key in self.values:
            return self.values[key]
        if required:
            self.wrong(key, f"is missing; expected {expected}")
        return None

    def close(self) -> None:
        """Refuse every key that was not read, naming the allowed ones and the nearest."""
        for key in self.values:
            if key not in self._known_keys:
                near = difflib.get_close_matches(str(key), self._known_keys, n=1)
                hint = f"did you mean {near[0]!r}? " if near else ""
                self.wrong(str(key), f"is an unknown key; {hint}allowed are {', '.join(self._known_keys)}")

    def text(
        self, key: str, *, required: bool = True, default: str = "", pattern: re.Pattern[str] | None = None
    ) -> str:
        """Read text, by default not empty; with `pattern`, text that matches it as a whole."""
        expected = f"text like {pattern.pattern}" if pattern else "text that is not empty"
        value = self._value(key, required=required, expected=expected)
        if value is None:
            return default
        good = isinstance(value, str) and not isinstance(value, WrittenFloat) and value.strip() == value
        if not good or not value or len(value) > 2000 or (pattern and not pattern.fullmatch(value)):
            self.wrong(key, f"must be {expected}, not {_shown(value)}")
            return default
        return str(value)

    def choice(self, key: str, allowed: Sequence[Choice], *, default: Choice | None = None) -> Choice:
        """Read one of the `allowed` values."""
        expected = f"one of {', '.join(allowed)}"
        value = self._value(key, required=default is None, expected=expected)
        if value is None:
            return default if default is not None else allowed[0]
        for word in allowed:
            if word == value:
                return word
        self.wrong(key, f"must be {expected}, not {_shown(value)}")
        return allowed[0]

    def decimal(self, key: str, low: str = "0", high: str = "1000000", *, required: bool = True) -> Decimal | None:
        """Read a decimal number of `low` to `high`: a string in quotes, or a whole TOML number. Never a float."""
        expected = f'a decimal number in quotes from "{low}" to "{high}", at most 10 decimals'
        value = self._value(key, required=required, expected=expected)
        if value is None:
            return None
        if isinstance(value, WrittenFloat):
            self.wrong(key, f'is the bare number {str.__str__(value)}; write it in quotes: "{str.__str__(value)}"')
            return None
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if not isinstance(text, str) or not _DECIMAL.fullmatch(text):
            self.wrong(key, f"must be {expected}, not {_shown(value)}")
            return None
        number = Decimal(text)
        if not Decimal(low) <= number <= Decimal(high):
            self.wrong(key, f"must be {expected}, not {text}")
            return None
        return number

    def factor(self, key: str, low: str, high: str) -> Decimal:
        """Read a required decimal; the default for a wrong one is 1."""
        number = self.decimal(key, low, high)
        return Decimal(1) if number is None else number

    def seconds(self, key: str, *, default: int = 0, required: bool = False) -> Fraction:
        """Read seconds: a whole number, or an exact number in quotes (`"4.5"`, `"121/24"`)."""
        expected = 'whole seconds, or exact seconds in quotes ("4.5", "121/24"), from 0 to 1000000'
        value = self._value(key, required=required, expected=expected)
        if value is None:
            return Fraction(default)
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        try:
            number = exact_number("" if isinstance(value, WrittenFloat) else text)
        except (TypeError, ValueError):
            number = Fraction(-1)
        if not 0 <= number <= 1_000_000:
            self.wrong(key, f"must be {expected}, not {_shown(value)}")
            return Fraction(default)
        return number

    def whole(self, key: str, low: int, high: int, *, required: bool = True) -> int | None:
        """Read a whole number of `low` to `high`."""
        expected = f"a whole number from {low} to {high}"
        value = self._value(key, required=required, expected=expected)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.wrong(key, f"must be {expected}, not {_shown(value)}")
            return None
        return value

    def count(self, key: str, low: int, high: int, *, default: int | None = None) -> int:
        """Read a whole number that is required unless it has a default; the default for a wrong one is `low`."""
        value = self.whole(key, low, high, required=default is None)
        if value is not None:
            return value
        return low if default is None else default

    def flag(self, key: str, *, default: bool | None = None, required: bool = False) -> bool | None:
        """Read true or false."""
        value = self._value(key, required=required, expected="true or false")
        if value is None:
            return default
        if not isinstance(value, bool):
            self.wrong(key, f"must be true or false, not {_shown(value)}")
            return default
        return value

    def moment(self, key: str, *, required: bool = False) -> datetime | None:
        """Read a moment with its offset from UTC; returned in UTC."""
        expected = "a moment with an offset, such as 2026-04-27T00:00:00+08:00"
        value = self._value(key, required=required, expected=expected)
        if value is None:
            return None
        if isinstance(value, str):
            with contextlib.suppress(ValueError):
                value = datetime.fromisoformat(value)
        if not isinstance(value, datetime) or value.utcoffset() is None:
            self.wrong(key, f"must be {expected}, not {value}")
            return None
        return value.astimezone(UTC)

    def words(self, key: str, *, allowed: Sequence[str] | None = None) -> tuple[str, ...]:
        """Read an optional list of different words; absent means an empty tuple. An empty list is refused."""
        expected = f"a list of different words out of {', '.join(allowed)}" if allowed else "a list of different words"
        value = self._value(key, required=False, expected=expected)
        if value is None:
            return ()
        good = isinstance(value, list) and value and all(type(item) is str and item for item in value)
        if not good or len(set(value)) != len(value) or (allowed and not set(value) <= set(allowed)):
            listing = _shown(value) if not isinstance(value, list) else f"[{', '.join(map(str, value))}]"
            self.wrong(key, f"must be {expected}, not {listing}")
            return ()
        return tuple(value)

    def table(self, key: str) -> "Table":
        """Read a required table."""
        value = self._value(key, required=True, expected="a table")
        return Table({} if value is None else value, self.at(key), self.problems if value is not None else [])

    def tables(self, key: str, *, at_least: int = 0) -> list["Table"]:
        """Read a list of tables, `[[key]]` in TOML."""
        value = self._value(key, required=at_least > 0, expected=f"at least {at_least} [[{key}]]")
        if value is None:
            return []
        if not isinstance(value, list) or len(value) < at_least:
            self.wrong(key, f"must be at least {at_least} [[{key}]], not {_shown(value)}")
            return []
        return [Table(item, f"{self.at(key)}[{index}]", self.problems) for index, item in enumerate(value)]


def read_document(read: Callable[[Table], Document], content: Mapping[str, Any]) -> Document:
    """Read a whole document of plain values with `read`. Raises BookError with every problem."""
    problems: list[Problem] = []
    document = read(Table(content, "", problems))
    if problems:
        raise BookError(problems)
    return document
