"""The audit log: filtered by object, person, action and days, with a check of its hashes; exported as CSV and JSON."""

import json
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request, Response
from sqlalchemy.orm import Session

from app.audit_log.log import list_entries
from app.audit_log.tables import AuditEntry
from app.audit_log.values import shown_facts, values_of
from app.audit_log.verify import broken_among
from app.errors import AppError
from app.reports.display_names import display_names, person_id
from app.web.auth import AdminDep, SessionDep
from app.web.formats import iso
from app.web.forms import parse_day
from app.web.language import gettext
from app.web.render import download, download_csv, page

router = APIRouter(prefix="/admin", include_in_schema=False)

PAGE = 50
# An export reads the newest of the filtered entries; older ones are reached by days.
EXPORT_MAX = 10_000
COLUMNS = ("number", "at", "actor", "actor_id", "via", "action", "subject", "facts", "previous_hash", "hash")


@dataclass(frozen=True)
class TrailFilter:
    """The filters of the audit log as they were typed; empty ones filter nothing. Days are those of the visitor."""

    subject: Annotated[str, Query(max_length=64)] = ""
    person: Annotated[str, Query(max_length=200)] = ""
    act: Annotated[str, Query(max_length=64)] = ""
    since: Annotated[str, Query(max_length=10)] = ""
    until: Annotated[str, Query(max_length=10)] = ""

    def entries(self, session: Session, zone: str, *, before: int | None, limit: int) -> list[AuditEntry]:
        """Return the entries, newest first. Raises AppError `invalid_request` for a day that is none."""
        return list_entries(
            session,
            subject=self.subject or None,
            actor=person_id(session, self.person) if self.person else None,
            act=self.act or None,
            before=before,
            since=parse_day(self.since, zone, "since"),
            until=parse_day(self.until, zone, "until", days=1),
            limit=limit,
        )

    def query(self, **changes: str | int) -> str:
        """Return the filters as the query of a link, with changes; empty ones are left out."""
        values: dict[str, str | int] = {**vars(self), **changes}
        return urlencode({name: value for name, value in values.items() if value})


Filtered = Annotated[TrailFilter, Depends()]


@router.get("/trail")
def show_audit_log(
    request: Request, session: SessionDep, visitor: AdminDep, chosen: Filtered, before: int | None = None
) -> Response:
    """Show the actions of admins, newest first, and whether the hash chain is intact where it is shown."""
    error, entries = None, []
    try:
        entries = chosen.entries(session, visitor.zone, before=before, limit=PAGE + 1)
    except AppError as refusal:
        error = refusal
    shown = entries[:PAGE]
    context: dict[str, Any] = {
        "entries": _rows(session, shown),
        "filter": chosen,
        "is_filtered": bool(chosen.query()),
        "broken": broken_among(session, shown),
        "more": shown[-1].number if len(entries) > PAGE else None,
        "export_max": EXPORT_MAX,
        "error": error,
    }
    status = error.status if error else 200
    return page(request, "console/trail.html", status=status, title=gettext("Audit log"), **context)


@router.get("/trail.csv")
def send_csv(session: SessionDep, visitor: AdminDep, chosen: Filtered) -> Response:
    """Send the filtered entries as CSV, newest first."""
    records = _records(session, chosen.entries(session, visitor.zone, before=None, limit=EXPORT_MAX))
    cells = (
        [
            json.dumps(row[name], ensure_ascii=False, sort_keys=True) if name == "facts" else row[name]
            for name in COLUMNS
        ]
        for row in records
    )
    return download_csv("audit-log.csv", COLUMNS, cells)


@router.get("/trail.jsonl")
def send_json(session: SessionDep, visitor: AdminDep, chosen: Filtered) -> Response:
    """Send the filtered entries as JSON lines, newest first, with what their hashes are computed from."""
    entries = chosen.entries(session, visitor.zone, before=None, limit=EXPORT_MAX)
    values = values_of(session, [each.number for each in entries])
    hashed = {
        each.number: {
            "hashed_facts": each.facts,
            "salts": {name: row.salt for name, row in values.get(each.number, {}).items()},
        }
        for each in entries
    }
    records = ({**row, **hashed[row["number"]]} for row in _records(session, entries))
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in records)
    return download(lines.encode(), "audit-log.jsonl", "application/jsonl")


def _rows(session: Session, entries: list[AuditEntry]) -> list[dict[str, Any]]:
    names = display_names(session, [each for entry in entries for each in (entry.actor, entry.subject)])
    facts = shown_facts(session, entries)
    return [
        {
            "number": each.number,
            "at": each.at,
            "actor": names.get(each.actor, each.actor),
            "actor_id": each.actor,
            "via": each.via,
            "action": each.act,
            "subject": each.subject,
            "subject_name": names.get(each.subject, each.subject),
            "facts": {name: value for name, value in facts[each.number].items() if value not in (None, "")},
            "hash": each.hash[:12],
        }
        for each in entries
    ]


def _records(session: Session, entries: list[AuditEntry]) -> list[dict[str, Any]]:
    names, facts = display_names(session, [each.actor for each in entries]), shown_facts(session, entries)
    return [
        {
            "number": each.number,
            "at": iso(each.at),
            "actor": names.get(each.actor, each.actor),
            "actor_id": each.actor,
            "via": each.via,
            "action": each.act,
            "subject": each.subject,
            "facts": facts[each.number],
            "previous_hash": each.previous_hash,
            "hash": each.hash,
        }
        for each in entries
    ]
