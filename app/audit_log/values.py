"""Facts that can name a person: they are kept beside their entry, which has their salted hash."""

import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.audit_log.tables import AuditEntry, AuditValue

# Facts that name nobody: ids, amounts, moments, words of our own. Any other text is kept as a personal value, so a new
# fact that nobody thought about can be erased.
PLAIN_FACTS = frozenset(
    {
        *("account", "agreement", "films", "job", "link", "model", "report", "requested_by", "simulation", "subject"),
        *(
            "amount",
            "currency",
            "budget_month",
            "left",
            "after",
            "before",
            "category",
            "kind",
            "roles",
            "scopes",
            "was",
        ),
        *("at", "effective_at", "ends_at", "requested_at", "starts_at"),
        *("based_on", "content_hash", "entries", "erasure", "host", "rows", "terms", "terms_hash"),
    }
)
_HASH = "salted_sha256"
# What is in the place of a fact that was written in the clear and erased later.
ERASED_FACT = {"erased": True}
# What is shown of a fact whose value was erased.
ERASED = "[erased]"


def value_hash(salt: str, name: str, value: Any) -> str:
    """Return the SHA-256, in hex, over a salt, the name of a fact and its value."""
    text = json.dumps([salt, name, value], ensure_ascii=False, separators=(",", ":"), sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def separate_values(facts: Mapping[str, Any]) -> tuple[dict[str, Any], list[AuditValue]]:
    """Return facts with a salted hash in place of each personal one, and the rows that have those, without a number."""
    kept: dict[str, Any] = {}
    values = []
    for name, value in facts.items():
        if not _is_personal(name, value):
            kept[name] = value
            continue
        row = AuditValue(name=name, salt=secrets.token_hex(16), value=value)
        kept[name] = {_HASH: value_hash(row.salt, name, value)}
        values.append(row)
    return kept, values


def _is_personal(name: str, value: Any) -> bool:
    return name not in PLAIN_FACTS and isinstance(value, str | list | dict) and bool(value)


def clear_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the personal facts that an entry of an earlier version has in the clear."""
    return {
        name: value
        for name, value in facts.items()
        if _is_personal(name, value) and hash_in(value) is None and value != ERASED_FACT
    }


def hash_in(fact: Any) -> str | None:
    """Return the salted hash that stands for a personal fact, or None for any other fact."""
    return fact[_HASH] if isinstance(fact, dict) and set(fact) == {_HASH} else None


def values_of(session: Session, numbers: Iterable[int]) -> dict[int, dict[str, AuditValue]]:
    """Return the personal facts of entries, by the number of the entry and the name of the fact."""
    values: dict[int, dict[str, AuditValue]] = {}
    for row in session.scalars(select(AuditValue).where(AuditValue.number.in_(list(numbers)))):
        values.setdefault(row.number, {})[row.name] = row
    return values


def shown_facts(session: Session, entries: Iterable[AuditEntry]) -> dict[int, dict[str, Any]]:
    """Return the facts of entries by their number, with the values that the hashes stand for, or ERASED."""
    listed = list(entries)
    values = values_of(session, [entry.number for entry in listed])

    def shown(number: int, name: str, fact: Any) -> Any:
        if fact == ERASED_FACT:
            return ERASED
        if hash_in(fact) is None:
            return fact
        row = values.get(number, {}).get(name)
        return ERASED if row is None else row.value

    return {
        entry.number: {name: shown(entry.number, name, fact) for name, fact in entry.facts.items()} for entry in listed
    }
