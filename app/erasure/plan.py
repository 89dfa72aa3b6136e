"""What an erasure removes, what stays and why, and what has to end first."""

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.accounts.accounts import get_account
from app.accounts.tables import Account, Member
from app.erasure.tables import ErasureKind
from app.errors import AppError, not_found
from pricing.money import Money


@dataclass(frozen=True)
class PlanLine:
    """So many rows of a kind. `why` is empty for what goes, and the reason for what stays."""

    what: str
    rows: int
    why: str = ""


@dataclass(frozen=True)
class ErasurePlan:
    """The plan of an erasure. `money` are sentences about what is left in the wallet; `unfinished` are ids of films."""

    kind: ErasureKind
    subject_id: str
    account_id: str | None
    goes: tuple[PlanLine, ...]
    stays: tuple[PlanLine, ...]
    money: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()
    open_holds: int = 0


# What goes, and the rows that are counted for it. `:subject` is the account.
_ACCOUNT_GOES = {
    "films: files with all versions, prompts, metadata, labels, addresses": "FROM jobs WHERE account_id = :subject",
    "uploads: files with all versions, names, hashes, marks": "FROM assets WHERE account_id = :subject",
    "quotes: prompts": "FROM quotes WHERE account_id = :subject AND spec_hash <> ''",
    "events: all but the receipt that they carry": "FROM events WHERE account_id = :subject AND erased_hash IS NULL",
    "webhook deliveries and their attempts": "FROM webhook_deliveries WHERE account_id = :subject",
    "webhook endpoints: addresses, names, secrets": "FROM webhook_endpoints WHERE account_id = :subject",
    "outcomes of moderation": "FROM moderation_outcomes WHERE account_id = :subject",
    "reasons of transfers": """
        FROM transfers WHERE account_id = :subject AND reason <> '' AND reason !~ '^erased:[0-9a-f]{64}$'""",
    "members: addresses, names, passwords, sessions": "FROM members WHERE account_id = :subject",
    "invitations: addresses": "FROM invitations WHERE account_id = :subject AND email <> ''",
    "keys: names; they end": "FROM api_keys WHERE account_id = :subject",
    "projects: names": "FROM projects WHERE account_id = :subject",
    "the account's place in the registry of films": "FROM registry_films WHERE account_id = :subject",
    "audit log: names and reasons in entries about the account": """
        FROM audit_values AS v JOIN audit_entries AS e ON e.number = v.number
        WHERE e.subject = :subject OR e.facts ->> 'account' = :subject""",
}
_BOOKKEEPING = "bookkeeping: the law asks for them, and they name the account by its id only"
_ACCOUNT_STAYS = {
    "receipts": ("FROM receipts WHERE account_id = :subject", _BOOKKEEPING),
    "transfers, holds and credit lots": ("FROM transfers WHERE account_id = :subject", _BOOKKEEPING),
    "contracts, with their titles": (
        "FROM contracts WHERE account_id = :subject",
        "bookkeeping: receipts were made by",
    ),
    "orders: model, size, length, price, times": ("FROM jobs WHERE account_id = :subject", "receipts replay from them"),
    "films in the registry, without the account": (
        "FROM registry_films WHERE account_id = :subject",
        "marks of generated films must lead to what the law asks of them",
    ),
    "reports of its films": (
        "FROM content_reports WHERE film_id IN (SELECT id FROM jobs WHERE account_id = :subject)",
        "the log of takedowns; it names no customer",
    ),
    "blocked files": (
        "FROM blocked_files WHERE film_id IN (SELECT id FROM jobs WHERE account_id = :subject)",
        "a removed film must not come back",
    ),
    "audit log: who did what to which id": (
        "FROM audit_entries WHERE subject = :subject OR facts ->> 'account' = :subject",
        "the chain of the log",
    ),
}
_MEMBER_GOES = {
    "member: address, name, password": "FROM members WHERE email = (SELECT email FROM members WHERE id = :subject)",
    "sessions": "FROM web_sessions WHERE member_id = :subject",
    "invitations: addresses": """
        FROM invitations WHERE accepted_by = :subject
            OR email = (SELECT email FROM members WHERE id = :subject AND email <> '')""",
    "names of the keys that the member made": "FROM api_keys WHERE member_id = :subject AND name <> ''",
    "audit log: facts of entries about the member, and facts that name the member": """
        FROM audit_values AS v JOIN audit_entries AS e ON e.number = v.number
        JOIN members AS m ON m.id = :subject
        WHERE e.subject = m.id OR (m.email <> '' AND position(m.email IN lower(v.value::text)) > 0)""",
}
_MEMBER_STAYS = {
    "films, uploads and orders of the account": (
        "FROM jobs WHERE account_id = (SELECT account_id FROM members WHERE id = :subject)",
        "they are the account's; no row says which member wrote a prompt. Erase the account, or delete the films",
    ),
    "audit log: what the member did, under an id": (
        "FROM audit_entries WHERE actor = :subject",
        "the chain of the log; the id leads to nobody any more",
    ),
    "keys that the member made": ("FROM api_keys WHERE member_id = :subject", "they are the account's, and go on"),
}
_REPORT_GOES = {"who sent the report, and in which words": "FROM report_senders WHERE report_id = :subject"}
_REPORT_STAYS = {
    "the report and its decision": (
        "FROM content_reports WHERE id = :subject",
        "the log of takedowns; it names no sender",
    )
}
_TABLES = {
    ErasureKind.ACCOUNT: (_ACCOUNT_GOES, _ACCOUNT_STAYS),
    ErasureKind.MEMBER: (_MEMBER_GOES, _MEMBER_STAYS),
    ErasureKind.REPORT: (_REPORT_GOES, _REPORT_STAYS),
}
# Of films that are not finished, so many are named.
UNFINISHED_MAX = 20


def make_plan(session: Session, kind: ErasureKind, subject_id: str) -> ErasurePlan:
    """Return what an erasure would do. It reads only. Raises AppError `not_found`."""
    account_id = _account_of(session, kind, subject_id)
    going, staying = _TABLES[kind]

    def count(rows: str) -> int:
        return int(session.scalar(text(f"SELECT count(*) {rows}"), {"subject": subject_id}) or 0)

    goes = tuple(PlanLine(what, count(rows)) for what, rows in going.items())
    stays = tuple(PlanLine(what, count(rows), why) for what, (rows, why) in staying.items())
    if kind is not ErasureKind.ACCOUNT:
        return ErasurePlan(kind, subject_id, account_id, goes, stays)
    unfinished = session.scalars(
        text("SELECT id FROM jobs WHERE account_id = :subject AND state IN ('queued', 'in_progress') ORDER BY id"),
        {"subject": subject_id},
    ).all()
    holds = count("FROM holds WHERE account_id = :subject AND state = 'held'")
    return ErasurePlan(kind, subject_id, account_id, goes, stays, _money(session, subject_id), tuple(unfinished), holds)


def _account_of(session: Session, kind: ErasureKind, subject_id: str) -> str | None:
    if kind is ErasureKind.ACCOUNT:
        return get_account(session, subject_id).id
    if kind is ErasureKind.MEMBER:
        member = session.get(Member, subject_id)
        if member is None:
            raise not_found("member", subject_id)
        return member.account_id
    state = session.scalar(text("SELECT state FROM content_reports WHERE id = :id"), {"id": subject_id})
    if state is None:
        raise not_found("report", subject_id)
    if state == "open":
        raise AppError("conflict", "Decide this report first: its sender's words are needed for that.", state=state)
    return None


def _money(session: Session, account_id: str) -> tuple[str, ...]:
    """Return sentences about the wallet: what is left in it, and what of that was bought."""
    account = session.get_one(Account, account_id)
    posted = session.scalar(text("SELECT posted FROM wallets WHERE account_id = :id"), {"id": account_id}) or 0
    bought = session.scalar(
        text("SELECT coalesce(sum(remaining), 0) FROM credit_lots WHERE account_id = :id AND kind = 'purchased'"),
        {"id": account_id},
    )
    if posted == 0:
        return ()
    left = Money(int(posted), account.currency).text
    sentence = f"{left} {account.currency} {'are left in' if posted > 0 else 'are owed by'} the wallet"
    of_it = f", of which {Money(int(bought or 0), account.currency).text} were bought" if posted > 0 else ""
    return (f"{sentence}{of_it}. An erasure moves no money; pay it back or book a correction before.",)
