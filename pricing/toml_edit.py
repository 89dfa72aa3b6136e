"""Edit single values of a TOML text and keep the rest as it is written: comments, order and unknown keys survive.

It understands what people write price books in: arrays of tables, and inline tables below them. Each edit is read back
and compared with what it should say; a text that is laid out in another way is refused instead of spoilt.
"""

import copy
import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pricing.schema import WrittenFloat

_HEADER = re.compile(r"\[(\[)?\s*([^\[\]\n]+?)\s*\]")
_KEY = re.compile(r'([A-Za-z0-9_-]+|"[^"\n]*")\s*=\s*')
_STEP = re.compile(r"([^.\[\]]+)((?:\[[0-9]+\])?)")
_SYNTAX_LINE = re.compile(r"\(at line ([0-9]+)")


class TomlEditError(ValueError):
    """The text is laid out in a way that cannot be edited in place."""


@dataclass
class _Entry:
    """One `key = value`: the offset of its line, and those of its value."""

    start: int
    value_start: int
    value_end: int


@dataclass
class _Section:
    """The root, or what follows a header. `end` is the offset behind its last entry, or behind the header."""

    path: str
    start: int
    end: int
    entries: dict[str, _Entry] = field(default_factory=dict)


class TomlText:
    """A TOML text with the places of its values. Paths are those of `pricing.schema`: `rates[2].per_second`.

    Raises tomllib.TOMLDecodeError for a text that is not TOML.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.data: dict[str, Any] = tomllib.loads(text, parse_float=WrittenFloat)
        self._sections = list(_sections(text))

    def line_of(self, path: str) -> int:
        """Return the line, from 1, of a value; of the nearest one around it where it is absent."""
        while path:
            for section in self._sections:
                if section.path == path:
                    return self._line(section.start)
                name = path.removeprefix(f"{section.path}.") if section.path else path
                if name in section.entries and (not section.path or name != path):
                    return self._line(section.entries[name].start)
            path = re.sub(r"(\[[0-9]+\]|(^|\.)[^.\[\]]+)$", "", path)
        return 1

    def with_value(self, path: str, value: Any) -> "TomlText":
        """Return the text with a value set; None removes the key. Raises TomlEditError."""
        parent, _, key = path.rpartition(".")
        expected = copy.deepcopy(self.data)
        _assign(expected, parent, key, value)
        section = next((each for each in self._sections if each.path == parent), None)
        inline = None if section is not None else self._inline(parent)
        if section is None and inline is None:
            raise TomlEditError(f"{path} is not where it can be edited.")
        if section is None:
            entries = _inline_entries(self.text, inline) if inline else {}
            edited = self._in_inline(entries.get(key), value)
        else:
            edited = self._in_section(section, key, value)
        return _read_back(edited, expected)

    def with_table(self, name: str, values: dict[str, Any]) -> "TomlText":
        """Return the text with one more `[[name]]` behind the last one, or at the end. Raises TomlEditError."""
        expected = copy.deepcopy(self.data)
        expected.setdefault(name, []).append(values)
        body = f"[[{name}]]\n" + "".join(f"{key} = {toml_literal(value)}\n" for key, value in values.items())
        siblings = [each for each in self._sections if re.match(rf"{name}\[", each.path)]
        end = self._line_end(siblings[-1].end) if siblings else len(self.text)
        before = self.text[:end] if self.text[:end].endswith("\n") else self.text[:end] + "\n"
        return _read_back(f"{before}\n{body}{self.text[end:]}", expected)

    def without_table(self, name: str, index: int) -> "TomlText":
        """Return the text without one `[[name]]`; comments around it stay. Raises TomlEditError."""
        expected = copy.deepcopy(self.data)
        if not isinstance(expected.get(name), list) or not 0 <= index < len(expected[name]):
            raise TomlEditError(f"There is no {name}[{index}].")
        del expected[name][index]
        if not expected[name]:
            del expected[name]
        path = f"{name}[{index}]"
        own = [each for each in self._sections if each.path == path or each.path.startswith(f"{path}.")]
        if not own:
            raise TomlEditError(f"{path} is not where it can be edited.")
        rest = self.text[self._line_end(own[-1].end) :]
        return _read_back(self.text[: own[0].start] + rest.removeprefix("\n"), expected)

    def _line(self, offset: int) -> int:
        return self.text.count("\n", 0, offset) + 1

    def _line_end(self, offset: int) -> int:
        end = self.text.find("\n", offset)
        return len(self.text) if end < 0 else end + 1

    def _inline(self, path: str) -> _Entry | None:
        parent, _, key = path.rpartition(".")
        section = next((each for each in self._sections if each.path == parent), None)
        entry = section.entries.get(key) if section else None
        return entry if entry and self.text[entry.value_start] == "{" else None

    def _in_section(self, section: _Section, key: str, value: Any) -> str:
        entry = section.entries.get(key)
        if entry is None:
            if value is None:
                return self.text
            end = self._line_end(section.end)
            line_break = "" if not end or self.text[:end].endswith("\n") else "\n"
            return f"{self.text[:end]}{line_break}{key} = {toml_literal(value)}\n{self.text[end:]}"
        if value is None:
            return self.text[: entry.start] + self.text[self._line_end(entry.value_end) :]
        return self.text[: entry.value_start] + toml_literal(value) + self.text[entry.value_end :]

    def _in_inline(self, entry: _Entry | None, value: Any) -> str:
        if entry is None or value is None:
            raise TomlEditError("A key of an inline table can be changed, not added or removed.")
        return self.text[: entry.value_start] + toml_literal(value) + self.text[entry.value_end :]


def syntax_line(message: str) -> int | None:
    """Return the line that a message of the TOML reader names, or None."""
    match = _SYNTAX_LINE.search(message)
    return int(match[1]) if match else None


def toml_literal(value: Any) -> str:
    """Return a value as TOML: text, whole numbers, true and false, moments, and lists and tables of these.

    Raises TypeError for anything else: a price book writes numbers with decimals as text.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    if isinstance(value, list):
        return f"[{', '.join(map(toml_literal, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {toml_literal(item)}' for key, item in value.items())} }}"
    if not isinstance(value, str):
        raise TypeError(f"a price book holds no {type(value).__name__}; write a number with decimals as text")
    # JSON's escapes are TOML's, but for the delete character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def value_at(data: Any, path: str) -> Any:
    """Return the value at a path, or None."""
    for match in _STEP.finditer(path):
        data = data.get(match[1]) if isinstance(data, dict) else None
        if match[2]:
            index = int(match[2][1:-1])
            data = data[index] if isinstance(data, list) and index < len(data) else None
    return data


def _assign(data: dict[str, Any], parent: str, key: str, value: Any) -> None:
    table = value_at(data, parent) if parent else data
    if not isinstance(table, dict):
        raise TomlEditError(f"There is no table {parent}.")
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value


def _read_back(text: str, expected: dict[str, Any]) -> TomlText:
    try:
        edited = TomlText(text)
    except tomllib.TOMLDecodeError as error:
        raise TomlEditError(f"The text cannot be edited in place: {error}") from None
    if edited.data != expected:
        raise TomlEditError("The text is laid out in a way that cannot be edited in place.")
    return edited


def _sections(text: str) -> Iterator[_Section]:
    """Yield the sections of a valid TOML text in order; keys with dots are left out."""
    counts: dict[str, int] = {}
    section, offset = _Section("", 0, 0), 0
    while offset < len(text):
        line_end = text.find("\n", offset)
        line_end = len(text) if line_end < 0 else line_end
        line = text[offset:line_end].lstrip()
        start = line_end - len(line)
        if not line or line.startswith("#"):
            pass
        elif header := _HEADER.match(text, start):
            yield section
            section = _Section(_header_path(header[2], bool(header[1]), counts), offset, header.end())
        else:
            value_start = start + (key.end() if (key := _KEY.match(line)) else line.find("=") + 1)
            end = _value_end(text, value_start)
            if key:
                section.entries[key[1].strip('"')] = _Entry(offset, value_start, end)
            section.end, line_end = end, text.find("\n", end)
            line_end = len(text) if line_end < 0 else line_end
        offset = line_end + 1
    yield section


def _header_path(name: str, is_list: bool, counts: dict[str, int]) -> str:
    """Return the path of a header with the index of each list on the way; `counts` counts the lists' tables."""
    parts = [part.strip().strip('"') for part in name.split(".")]
    path = ""
    for depth, part in enumerate(parts):
        path = f"{path}.{part}" if path else part
        if is_list and depth == len(parts) - 1:
            counts[path] = counts.get(path, 0) + 1
        if path in counts:
            path = f"{path}[{counts[path] - 1}]"
    return path


def _value_end(text: str, offset: int) -> int:
    """Return the offset behind the value that starts at `offset`, without blanks and a comment after it."""
    depth, end = 0, offset
    while offset < len(text):
        character = text[offset]
        if character in "\"'":
            offset = end = _string_end(text, offset)
            continue
        if character == "#":
            offset = text.find("\n", offset)
            offset = len(text) if offset < 0 else offset
            continue
        if depth == 0 and character in "\n,}]":
            break
        depth += (character in "[{") - (character in "]}")
        offset += 1
        end = end if character.isspace() else offset
    return end


def _string_end(text: str, offset: int) -> int:
    quote = text[offset]
    delimiter = quote * 3 if text.startswith(quote * 3, offset) else quote
    offset += len(delimiter)
    while not text.startswith(delimiter, offset):
        offset += 2 if quote == '"' and text[offset] == "\\" else 1
    offset += len(delimiter)
    while len(delimiter) == 3 and text.startswith(quote, offset):
        offset += 1
    return offset


def _inline_entries(text: str, table: _Entry) -> dict[str, _Entry]:
    """Return the entries of an inline table by key."""
    entries: dict[str, _Entry] = {}
    offset = table.value_start + 1
    while key := re.compile(r"[\s,]*" + _KEY.pattern).match(text, offset, table.value_end):
        end = _value_end(text, key.end())
        entries[key[1].strip('"')] = _Entry(key.start(), key.end(), end)
        offset = end
    return entries
