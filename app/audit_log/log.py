"""The audit log: every action of an operator, append-only, each entry chained to the last one by its hash."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session, aliased

from app.audit_log.actor import Actor
from app.audit_log.tables import AuditEntry
from app.clock import now

# A transaction-long advisory lock: entries are chained, so they are written one after the other. Acquire it last.
_LOCK = 0x7472_6169
FIRST = "0" * 64


def record_action(session: Session, actor: Actor, act: str, subject: str, **facts: Any) -> AuditEntry:
    """Record an action in the transaction that does it. The caller commits.

    `act` is the action, such as `book.approved` or `account.suspended`; `subject` is the id that it is about. `facts`
    are plain values such as before and after or a reason; money as decimal strings, no floats.
    """
    session.execute(select(func.pg_advisory_xact_lock(_LOCK)))
    last = session.scalar(select(AuditEntry.hash).order_by(AuditEntry.number.desc()).limit(1))
    entry = AuditEntry(
        at=now(session),
        actor=actor.person,
        via=actor.via,
        act=act,
        subject=subject,
        facts=facts,
        previous_hash=last or FIRST,
    )
    entry.hash = entry_hash(entry)
    session.add(entry)
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
    return [
        entry.number
        for entry in entries
        if entry.previous_hash != (hashes[entry.number] or FIRST) or entry.hash != entry_hash(entry)
    ]


def broken_entries(session: Session) -> Iterator[int]:
    """Yield the number of each entry that was changed, or whose predecessor was removed or inserted."""
    previous = FIRST
    for entry in session.scalars(select(AuditEntry).order_by(AuditEntry.number).execution_options(yield_per=500)):
        if entry.previous_hash != previous or entry.hash != entry_hash(entry):
            yield entry.number
        previous = entry.hash
