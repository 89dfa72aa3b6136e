"""What an erasure of a member or of the sender of a report changes, step by step. Each step may be repeated."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from app.accounts.tables import Invitation, Member
from app.audit_log.tables import AuditEntry
from app.clock import now
from app.db import transaction
from app.erasure.account_steps import ERASE_MEMBER, ERASE_REASONS, Action
from app.erasure.audit_entries import erase_entries
from app.erasure.batches import run_statements

# Shorter names are parts of too many words to be looked for in texts.
_NAME_MIN = 4


def same_person(session: Session, member_id: str) -> tuple[list[str], list[str]]:
    """Return the ids of all members with a member's address, and what the person is called in texts, in lower case.

    Members with the same address are earlier ones of the same person, who were removed. After the end of an erasure
    there is nothing to look for.
    """
    member = session.get_one(Member, member_id)
    if not member.email:
        return [member_id], []
    members = session.scalars(select(Member).where(Member.email == member.email)).all()
    names = {each.name.strip().lower() for each in members}
    return [each.id for each in members], [member.email, *sorted(name for name in names if len(name) >= _NAME_MIN)]


def _invitations(member_id: str, _erasure_id: str) -> Iterator[int]:
    """Remove the address from invitations; open ones end."""
    with transaction() as session:
        moment = now(session)
    yield run_statements(
        [
            """
            UPDATE invitations AS i SET email = '', revoked_at = CASE WHEN i.accepted_at IS NULL
                THEN coalesce(i.revoked_at, :now) END
            FROM members AS m WHERE m.id = :subject AND m.email <> '' AND (i.email = m.email OR i.accepted_by = m.id)"""
        ],
        subject=member_id,
        now=moment,
    )


def _reasons(member_id: str, _erasure_id: str) -> Iterator[int]:
    """Remove reasons and names of keys of the person's accounts in which the person is named."""
    with transaction() as session:
        ids, words = same_person(session, member_id)
    inputs: dict[str, Any] = {"ids": ids, "words": [_pattern(word) for word in words]}
    mine = "account_id IN (SELECT account_id FROM members WHERE id = ANY(:ids))"
    yield run_statements([f"{ERASE_REASONS}t.{mine} AND t.reason ILIKE ANY(:words)"], **inputs)
    for table, column in (
        ("top_up_requests", "reason"),
        ("intake_pauses", "reason"),
        ("api_keys", "name"),
        ("moderation_outcomes", "reason"),
    ):
        query = f"UPDATE {table} SET {column} = '' WHERE {mine} AND {column} ILIKE ANY(:words)"
        yield run_statements([query], **inputs)
    account = """
        UPDATE accounts SET suspended_reason = 'erased' WHERE suspended_reason ILIKE ANY(:words)
            AND id IN (SELECT account_id FROM members WHERE id = ANY(:ids))"""
    yield run_statements([account], **inputs)
    # The name of a key is what its maker calls it. The key itself is the account's, and goes on.
    yield run_statements(["UPDATE api_keys SET name = '' WHERE member_id = ANY(:ids) AND name <> ''"], **inputs)


def _pattern(word: str) -> str:
    """Return the pattern of LIKE for a text that contains a word."""
    for sign in "\\%_":
        word = word.replace(sign, f"\\{sign}")
    return f"%{word}%"


def _audit_log(member_id: str, erasure_id: str) -> Iterator[int]:
    """Delete facts of entries about the person, and facts of others that name the person."""
    yield from erase_entries(member_id, erasure_id, _member_entries)


def _member_entries(
    session: Session, member_id: str, entries: Sequence[AuditEntry]
) -> dict[int, Callable[[str, Any], bool]]:
    ids, words = same_person(session, member_id)
    addresses = [word for word in words if "@" in word]
    invited = or_(Invitation.accepted_by.in_(ids), Invitation.email.in_(addresses))
    subjects = {*ids, *session.scalars(select(Invitation.id).where(invited))}

    def names_person(_name: str, value: Any) -> bool:
        text = json.dumps(value, ensure_ascii=False).lower()
        return any(word in text for word in words)

    return {
        entry.number: (lambda _name, _value: True) if entry.subject in subjects else names_person for entry in entries
    }


def _member(member_id: str, _erasure_id: str) -> Iterator[int]:
    """Remove the person's sessions, address, name and password: the last step, as the others look for the address."""
    with transaction() as session:
        ids, _ = same_person(session, member_id)
        moment = now(session)
    statements = ("DELETE FROM web_sessions WHERE member_id = ANY(:ids)", ERASE_MEMBER)
    yield run_statements(statements, ids=ids, now=moment)


MEMBER_STEPS: dict[str, Action] = {
    "audit_log": _audit_log,
    "reasons": _reasons,
    "invitations": _invitations,
    "member": _member,
}


def _sender(report_id: str, _erasure_id: str) -> Iterator[int]:
    """Delete who sent a report and in which words."""
    yield run_statements(["DELETE FROM report_senders WHERE report_id = :subject"], subject=report_id)


REPORT_STEPS: dict[str, Action] = {"sender": _sender}
