"""The price book as a form: read the fields into the TOML text, which both tabs edit, and show the text as fields.

The text is the draft. A field that still shows what the text says is left alone, so that comments, spelling and what
the form does not show survive.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import FormData

from app.web.auth import text_of, texts_of
from app.web.console.book_fields import (
    ALL,
    BOOK,
    REFERENCES,
    TABLES,
    BookField,
    FieldError,
    has_right_type,
    parse_ticked,
    parse_typed,
    ticked_words,
    typed_value,
)
from pricing.book import PriceBook
from pricing.check import check_examples
from pricing.toml_edit import TomlEditError, TomlText, value_at

# What a new row says before it is filled in: it changes no price.
_NEW: dict[str, dict[str, Any]] = {
    "rates": {"model": "new-model", "resolution": "720P"},
    "service_tiers": {"title": {"en": "New tier", "zh": "新档位"}, "factor": "1"},
    "promotions": {"title": {"en": "New promotion", "zh": "新优惠"}, "factor": "1"},
    "memberships": {"title": {"en": "New membership", "zh": "新会员"}},
}
_STEM = {"rates": "rate", "service_tiers": "tier", "promotions": "promotion", "memberships": "membership"}


# The ids of the base by table, which accounts and stored films name: the form does not rename them.
FixedIds = Mapping[str, Collection[str]]


@dataclass
class DraftForm:
    """A draft with what was typed and ticked: the text with every good field in it, and the bad ones by path."""

    toml: TomlText
    typed: dict[str, str] = field(default_factory=dict)
    ticked: dict[str, list[str]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)


def read_draft(toml: TomlText, form: FormData, zone: str, fixed_ids: FixedIds) -> DraftForm:
    """Return the draft with the form's fields in it. `zone` is that of the moments in the form."""
    draft = DraftForm(toml)
    for path, each in list(_fields(toml)):
        before = value_at(toml.data, path)
        try:
            if is_ticked(each):
                if f"{path}.shown" not in form:
                    continue
                words = texts_of(form, path)
                if set(words) == set(ticked_words(before)):
                    continue
                draft.ticked[path] = words
                value = parse_ticked(words)
            else:
                text = text_of(form, path)
                # A bare number looks like its text in quotes, and is put in them; a text like its number.
                as_it_is = text == typed_value(each, before, zone) and has_right_type(each, before)
                if path not in form or as_it_is:
                    continue
                draft.typed[path] = text
                if is_fixed(path, before, fixed_ids):
                    raise FieldError("The present book has this id, so it stays. Add a row for another one.")
                value = parse_typed(each, text, zone)
            draft.toml = draft.toml.with_value(path, value)
            draft.typed.pop(path, None)
            draft.ticked.pop(path, None)
        except FieldError as error:
            draft.errors[path] = str(error)
        except TomlEditError:
            draft.errors[path] = "Change this in the TOML text: it is laid out in another way there."
    return draft


def is_fixed(path: str, value: Any, fixed_ids: FixedIds) -> bool:
    """Return whether a path is that of an id that the base has too."""
    table, _, key = path.partition("[")
    return key.endswith("].id") and isinstance(value, str) and value in fixed_ids.get(table, ())


def is_ticked(each: BookField) -> bool:
    """Return whether the words of a field are boxes to tick."""
    return each.kind == "words" and bool(each.options or each.key in REFERENCES)


def with_row(toml: TomlText, table: str) -> TomlText:
    """Return the draft with a new row in a table. Raises TomlEditError; KeyError for an unknown table."""
    rows = rows_of(toml, table)
    number = len(rows) + 1
    while any(row.get("id") == f"{_STEM[table]}-{number}" for row in rows):
        number += 1
    values: dict[str, Any] = {"id": f"{_STEM[table]}-{number}"}
    if table == "memberships" and rows:
        values |= {key: value for key, value in rows[-1].items() if key != "id"}
    values |= _NEW[table]
    if table == "rates":
        first = next((row for row in rows if row.get("resolution") == "720P"), {})
        values |= {key: first[key] for key in ("per_second", "input_per_second") if key in first}
    if table == "promotions":
        values["priority"] = max([row["priority"] for row in rows if isinstance(row.get("priority"), int)], default=0)
        values["priority"] = min(values["priority"] + 10, 1000)
    return toml.with_table(table, values)


def without_row(toml: TomlText, table: str, index: int) -> TomlText:
    """Return the draft without a row of a table. Raises TomlEditError; KeyError for an unknown table."""
    if table not in TABLES:
        raise KeyError(table)
    return toml.without_table(table, index)


def orphans_of(toml: TomlText) -> list[int]:
    """Return the positions of the examples that name a membership or service tier which the draft has not."""
    ids = {table: {row.get("id") for row in rows_of(toml, table)} for table in REFERENCES}
    return [
        index
        for index, row in enumerate(rows_of(toml, "examples"))
        if row.get("membership", "free") not in ids["memberships"]
        or row.get("service_tier", "standard") not in ids["service_tiers"]
    ]


def without_orphans(toml: TomlText) -> TomlText:
    """Return the draft without the examples that name a removed membership or tier. Raises TomlEditError."""
    for index in reversed(orphans_of(toml)):
        toml = toml.without_table("examples", index)
    return toml


def with_new_amounts(toml: TomlText, book: PriceBook) -> TomlText:
    """Return the draft whose worked examples expect what the rules give. Raises TomlEditError.

    An example that the rules cannot price stays as it is.
    """
    for failure in check_examples(book):
        total = failure.total
        if total is not None:
            toml = toml.with_value(f"examples[{failure.index}].total", total.text)
    return toml


def rows_of(toml: TomlText, table: str) -> list[dict[str, Any]]:
    """Return the rows of a table that are tables themselves."""
    rows = toml.data.get(table)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def show_fields(draft: DraftForm, problems: dict[str, str], zone: str, fixed_ids: FixedIds) -> dict[str, Any]:
    """Return the draft as the template shows it: the book's fields, and the rows of each table.

    `problems` are those of the text by path; what was typed wrongly comes first.
    """
    wrong = problems | draft.errors
    shown = {
        path: _shown(draft, path, each, wrong, zone)
        | {"fixed": path not in wrong and is_fixed(path, value_at(draft.toml.data, path), fixed_ids)}
        for path, each in _fields(draft.toml)
    }
    tables = {
        table: [
            {"index": index, "wrong": any(path.startswith(f"{table}[{index}]") for path in wrong)}
            | {each.key: shown[f"{table}[{index}].{each.key}"] for each in fields}
            for index in range(len(rows_of(draft.toml, table)))
        ]
        for table, fields in TABLES.items()
    }
    return {"book": {each.key: shown[each.key] for each in BOOK}, "tables": tables, "all": list(shown.values())}


def field_paths(toml: TomlText) -> set[str]:
    """Return the paths of all fields that the form shows."""
    return {path for path, _ in _fields(toml)}


def _fields(toml: TomlText) -> Iterator[tuple[str, BookField]]:
    for each in BOOK:
        yield each.key, each
    for table, fields in TABLES.items():
        for index in range(len(rows_of(toml, table))):
            for each in fields:
                yield f"{table}[{index}].{each.key}", each


def _shown(draft: DraftForm, path: str, each: BookField, wrong: dict[str, str], zone: str) -> dict[str, Any]:
    value = value_at(draft.toml.data, path)
    message = wrong.get(path, "")
    # The reader of the text speaks of quotes, which are none of the form's.
    message = each.allowed if message.startswith(("must be ", "is missing", "is the bare number")) else message
    words = draft.ticked.get(path, ticked_words(value)) if is_ticked(each) else []
    options = list(each.options)
    if each.key in REFERENCES:
        options = [str(row.get("id")) for row in rows_of(draft.toml, each.key)]
    if is_ticked(each):
        options.insert(0, ALL)
    text = draft.typed.get(path, typed_value(each, value, zone))
    known = words if is_ticked(each) else [text] if each.kind == "choice" else []
    return {
        "path": path,
        "id": field_id(path),
        "label": each.label,
        "row": _row_name(draft.toml, path),
        "kind": each.kind,
        "ticked": is_ticked(each),
        "allowed": each.allowed,
        "required": each.required,
        "options": list(dict.fromkeys([*options, *known])),
        "words": words,
        "text": text,
        "error": message,
    }


def _row_name(toml: TomlText, path: str) -> str:
    """Return the name of the row of a path as people read it: its title, or its id; empty for the book itself."""
    row = value_at(toml.data, path.partition("].")[0] + "]") if "]." in path else None
    if not isinstance(row, dict):
        return ""
    title = row.get("title")
    return str((title.get("en") if isinstance(title, dict) else None) or row.get("id") or "")


def field_id(path: str) -> str:
    """Return the HTML id of the field of a path."""
    return "f-" + path.replace("[", "-").replace("].", "-").replace(".", "-")
