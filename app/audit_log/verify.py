"""Verify the audit log: the chain of its hashes, the values that its salted hashes stand for, and its erasures.

An entry whose facts were written in the clear, and erased later, no longer gives its own hash. It is accepted where a
later entry AUDIT_ERASED names its number, its hash and the hash of what was left of it: that entry is chained itself.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from app.audit_log.log import FIRST, entry_hash
from app.audit_log.tables import AuditEntry, AuditValue
from app.audit_log.values import hash_in, value_hash, values_of

# The act of the entry that records which facts of which entries were erased, in its fact `entries`.
AUDIT_ERASED = "audit_log.erased"
_PAGE = 500

# By the number of an entry: what each erasure recorded about it, the oldest first.
Erasures = Mapping[int, Sequence[Mapping[str, Any]]]


def erasures_of(session: Session) -> Erasures:
    """Return what the log itself says was erased from its entries."""
    records: dict[int, list[Mapping[str, Any]]] = {}
    query = select(AuditEntry.number, AuditEntry.facts).where(AuditEntry.act == AUDIT_ERASED)
    for number, facts in session.execute(query.order_by(AuditEntry.number)):
        for each in facts.get("entries", ()):
            # No entry erases itself or a later one.
            if each["number"] < number:
                records.setdefault(each["number"], []).append(each)
    return records


def broken_among(session: Session, entries: Sequence[AuditEntry]) -> list[int]:
    """Return the numbers of those of these entries that were changed, or whose predecessor was removed or inserted."""
    other = aliased(AuditEntry)
    previous = (
        select(other.hash)
        .where(other.number < AuditEntry.number)
        .order_by(other.number.desc())
        .limit(1)
        .scalar_subquery()
    )
    numbers = [entry.number for entry in entries]
    rows = session.execute(select(AuditEntry.number, previous).where(AuditEntry.number.in_(numbers)))
    # `dict` would take the result itself for a mapping: it has `keys`.
    hashes: dict[int, str | None] = dict(rows.all())
    values, erasures = values_of(session, numbers), erasures_of(session)
    return [
        entry.number
        for entry in entries
        if entry.previous_hash != (hashes[entry.number] or FIRST)
        or not is_intact(entry, values.get(entry.number, {}), erasures.get(entry.number, ()))
    ]


def broken_entries(session: Session) -> Iterator[int]:
    """Yield the number of each entry that was changed, or whose predecessor was removed or inserted."""
    previous, erasures = FIRST, erasures_of(session)
    entries = iter(session.scalars(select(AuditEntry).order_by(AuditEntry.number).execution_options(yield_per=_PAGE)))
    while page := list(islice(entries, _PAGE)):
        values = values_of(session, [entry.number for entry in page])
        for entry in page:
            intact = is_intact(entry, values.get(entry.number, {}), erasures.get(entry.number, ()))
            if entry.previous_hash != previous or not intact:
                yield entry.number
            previous = entry.hash


def is_intact(entry: AuditEntry, values: Mapping[str, AuditValue], erasures: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether an entry says what was hashed, and its values are those that were hashed, or were erased."""
    own, redactions = entry_hash(entry), [each for each in erasures if each.get("left")]
    if own != entry.hash and not (redactions and (redactions[-1]["hash"], redactions[-1]["left"]) == (entry.hash, own)):
        return False
    expected = {name: digest for name, fact in entry.facts.items() if (digest := hash_in(fact)) is not None}
    erased = {name for each in erasures for name in each["names"]}
    return set(values) <= set(expected) and all(
        digest == value_hash(values[name].salt, name, values[name].value) if name in values else name in erased
        for name, digest in expected.items()
    )
