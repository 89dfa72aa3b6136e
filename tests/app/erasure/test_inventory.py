"""Every column is in deploy/personal-data.md, once, with what an erasure does with it."""

import importlib
import re
from collections import Counter

import pytest

from app.db import Base
from app.erasure.account_steps import ACCOUNT_STEPS
from app.erasure.person_steps import MEMBER_STEPS
from tests.repo.sources import ROOT

ROW = re.compile(r"\| `(\w+)` \| ([`\w ]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|")


@pytest.fixture(scope="module")
def listed() -> dict[str, list[str]]:
    for path in sorted((ROOT / "app").glob("*/*tables.py")):
        importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    columns: dict[str, list[str]] = {}
    text = (ROOT / "deploy" / "personal-data.md").read_text(encoding="utf-8")
    for line in text.partition("## Columns")[2].splitlines():
        row = ROW.fullmatch(line)
        if row is not None:
            columns.setdefault(row[1], []).extend(re.findall(r"`(\w+)`", row[2]))
    return columns


def test_every_column_is_classified_once(listed: dict[str, list[str]]) -> None:
    actual = {table.name: {column.name for column in table.columns} for table in Base.metadata.sorted_tables}
    assert {table: set(columns) for table, columns in listed.items()} == actual
    assert [table for table, columns in listed.items() if max(Counter(columns).values()) > 1] == []


def test_every_table_that_has_an_erased_column_is_in_a_step(listed: dict[str, list[str]]) -> None:
    text = (ROOT / "deploy" / "personal-data.md").read_text(encoding="utf-8").partition("## Columns")[2]
    code = "\n".join((ROOT / "app" / "erasure").joinpath(f"{name}.py").read_text(encoding="utf-8") for name in FILES)
    erased = {
        row[1] for row in map(ROW.fullmatch, text.splitlines()) if row is not None and not row[4].startswith("stays")
    }
    assert erased <= listed.keys()
    named = set(re.findall(r"(?:UPDATE|DELETE FROM|delete\(|update\() ?(\w+)", code))
    # Those that are written by their classes.
    named |= {"audit_values"} if "AuditValue" in named else set()
    named |= {"audit_entries"} if "AuditEntry" in named else set()
    assert erased <= named | set(re.findall(r'\("(\w+)", "\w+"\)', code))


FILES = ("account_steps", "person_steps", "audit_entries")


def test_steps_end_with_what_the_others_need() -> None:
    """The salt, and the address that is looked for, go last: a step after them would find nothing."""
    assert list(ACCOUNT_STEPS)[-1] == "account"
    assert list(MEMBER_STEPS)[-1] == "member"
