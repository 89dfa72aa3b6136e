"""The audit log: every action of an operator, append-only, each entry chained to the last one by its hash."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.audit_log.actor import Actor
from app.audit_log.tables import AuditEntry
from app.audit_log.values import separate_values
from app.clock import now

# A transaction-long advisory lock: entries are chained, so they are written one after the other. Acquire it last.
_LOCK = 0x7472_6169
FIRST = "0" * 64


def record_action(session: Session, actor: Actor, act: str, subject: str, **facts: Any) -> AuditEntry:
    """Record an action in the transaction that does it. The caller commits.

    `act` is the action, such as `book.approved` or `account.suspended`; `subject` is the id that it is about. `facts`
    are plain values such as before and after or a reason; money as decimal strings, no floats. Those that can name a
    person are kept beside the entry, which has their salted hash (see values.py).
    """
    kept, values = separate_values(facts)
    session.execute(select(func.pg_advisory_xact_lock(_LOCK)))
    last = session.scalar(select(AuditEntry.hash).order_by(AuditEntry.number.desc()).limit(1))
    entry = AuditEntry(
        at=now(session),
        actor=actor.person,
        via=actor.via,
        act=act,
        subject=subject,
        facts=kept,
        previous_hash=last or FIRST,
    )
    entry.hash = entry_hash(entry)
    session.add(entry)
    session.flush()
    for value in values:
        value.number = entry.number
    session.add_all(values)
    session.flush()
    return entry


def entry_hash(entry: AuditEntry) -> str:
    """Return the SHA-256, in hex, over an entry's values and the hash of the one before it."""
    content = {
        "at": entry.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "actor": entry.actor,
        "via": entry.via,
        "act": entry.act,
        "subject": entry.subject,
        "facts": entry.facts,
        "previous": entry.previous_hash,
    }
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def list_entries(
    session: Session,
    *,
    subject: str | None = None,
    actor: str | None = None,
    act: str | None = None,
    before: int | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 50,
) -> list[AuditEntry]:
    """Return entries, newest first: with this subject, person and action, numbers below `before`, in [since, until)."""
    query = select(AuditEntry)
    equal = ((AuditEntry.subject, subject), (AuditEntry.actor, actor), (AuditEntry.act, act))
    query = query.where(*(column == value for column, value in equal if value is not None))
    if until is not None:
        query = query.where(AuditEntry.at < until)
    if before is not None:
        query = query.where(AuditEntry.number < before)
    if since is not None:
        query = query.where(AuditEntry.at >= since)
    return list(session.scalars(query.order_by(AuditEntry.number.desc()).limit(limit)))


def last_simulation(session: Session, book_id: str, content_hash: str) -> int | None:
    """Return the number of the entry of the last simulation of a book with this content, or None."""
    return session.scalar(
        select(func.max(AuditEntry.number)).where(
            AuditEntry.subject == book_id,
            AuditEntry.act == "book.simulated",
            AuditEntry.facts["content_hash"].astext == content_hash,
        )
    )
