"""Erase the personal facts of entries of the audit log, and record in the log that they were erased."""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from sqlalchemy import delete, select, text, update
from sqlalchemy.orm import Session

from app.audit_log.actor import Actor
from app.audit_log.log import entry_hash, record_action
from app.audit_log.tables import AuditEntry, AuditValue
from app.audit_log.values import ERASED_FACT, clear_facts, values_of
from app.audit_log.verify import AUDIT_ERASED, erasures_of, is_intact
from app.db import allow_erasure, transaction
from app.erasure.tables import Erasure
from app.errors import AppError

_BATCH = 200
# Erasures act as the service itself; the entry of their start names the operator.
_ERASURE = "erasure"

# Of some entries, those that are about the subject of an erasure, and whether a fact of them is to go.
Choice = Callable[[Session, str, Sequence[AuditEntry]], dict[int, Callable[[str, Any], bool]]]

_OWN_IDS = """
    SELECT id FROM members WHERE account_id = :account UNION ALL SELECT id FROM invitations WHERE account_id = :account
    UNION ALL SELECT id FROM api_keys WHERE account_id = :account
    UNION ALL SELECT id FROM projects WHERE account_id = :account
    UNION ALL SELECT id FROM contracts WHERE account_id = :account
    UNION ALL SELECT id FROM intake_pauses WHERE account_id = :account
    UNION ALL SELECT id FROM top_up_requests WHERE account_id = :account
    UNION ALL SELECT id FROM jobs WHERE account_id = :account AND id = ANY(:subjects)
    UNION ALL SELECT id FROM transfers WHERE account_id = :account AND id = ANY(:subjects)"""


def account_entries(
    session: Session, account_id: str, entries: Sequence[AuditEntry]
) -> dict[int, Callable[[str, Any], bool]]:
    """Choose the entries about an account and what belongs to it; all of their personal facts go."""
    subjects = [entry.subject for entry in entries]
    own: Collection[str] = set(session.scalars(text(_OWN_IDS), {"account": account_id, "subjects": subjects}))
    return {
        entry.number: lambda _name, _value: True
        for entry in entries
        if entry.subject == account_id or entry.subject in own or entry.facts.get("account") == account_id
    }


def erase_entries(subject_id: str, erasure_id: str, choose: Choice) -> Iterator[int]:
    """Erase what `choose` picks, in batches of entries, and yield how many entries of each batch were changed.

    Raises AppError `conflict` for an entry that does not verify: an erasure must not hide that it was changed.
    """
    after = 0
    while True:
        with transaction() as session:
            query = select(AuditEntry).where(AuditEntry.number > after).order_by(AuditEntry.number).limit(_BATCH)
            entries = session.scalars(query).all()
            if not entries:
                return
            after = entries[-1].number
            records = _erase(session, entries, choose(session, subject_id, entries))
            if records:
                kind = session.scalars(select(Erasure.kind).where(Erasure.id == erasure_id)).one()
                actor = Actor(_ERASURE, kind, frozenset())
                record_action(session, actor, AUDIT_ERASED, subject_id, erasure=erasure_id, entries=records)
        yield len(records)


def _erase(
    session: Session, entries: Sequence[AuditEntry], chosen: dict[int, Callable[[str, Any], bool]]
) -> list[dict[str, Any]]:
    if chosen:
        # Another erasure may have changed them since they were read: its facts would be put back.
        again = select(AuditEntry).where(AuditEntry.number.in_(chosen)).order_by(AuditEntry.number).with_for_update()
        session.scalars(again.execution_options(populate_existing=True)).all()
    values = values_of(session, chosen)
    erasures = erasures_of(session) if chosen else {}
    allow_erasure(session)
    records = []
    for entry in entries:
        is_erased = chosen.get(entry.number)
        if is_erased is None:
            continue
        rows = values.get(entry.number, {})
        apart = [name for name, row in rows.items() if is_erased(name, row.value)]
        clear = [name for name, value in clear_facts(entry.facts).items() if is_erased(name, value)]
        if not apart and not clear:
            continue
        if not is_intact(entry, rows, erasures.get(entry.number, ())):
            message = "An entry of the audit log does not verify. Run `cinemeter audit` before anything is erased."
            raise AppError("conflict", message, entry=entry.number)
        records.append(_record(session, entry, apart, clear))
    return records


def _record(session: Session, entry: AuditEntry, apart: list[str], clear: list[str]) -> dict[str, Any]:
    """Erase facts of an entry, and return what the log has to say about it."""
    session.execute(delete(AuditValue).where(AuditValue.number == entry.number, AuditValue.name.in_(apart)))
    record: dict[str, Any] = {"number": entry.number, "names": sorted([*apart, *clear]), "hash": entry.hash}
    if clear:
        left = {name: ERASED_FACT if name in clear else value for name, value in entry.facts.items()}
        session.execute(update(AuditEntry).where(AuditEntry.number == entry.number).values(facts=left))
        session.refresh(entry)
        record["left"] = entry_hash(entry)
    return record
