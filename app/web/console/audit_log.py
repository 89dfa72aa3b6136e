"""The audit log, with a check of the hashes of the entries on the page."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from app.audit_log.log import broken_among, list_entries
from app.reports.display_names import display_names
from app.web.auth import AdminDep, SessionDep
from app.web.render import page

router = APIRouter(prefix="/admin", include_in_schema=False)

PAGE = 50


@router.get("/trail")
def show_audit_log(
    request: Request,
    session: SessionDep,
    visitor: AdminDep,
    subject: Annotated[str, Query(max_length=64)] = "",
    before: Annotated[int | None, Query()] = None,
) -> Response:
    """Show the actions of admins, newest first, and whether the hash chain is intact where it is shown."""
    entries = list_entries(session, subject=subject or None, before=before, limit=PAGE + 1)
    names = display_names(session, [each for entry in entries for each in (entry.actor, entry.subject)])
    rows = [
        {
            "number": each.number,
            "at": each.at,
            "actor": names.get(each.actor, each.actor),
            "via": each.via,
            "action": each.act,
            "subject": each.subject,
            "subject_name": names.get(each.subject, each.subject),
            "facts": {name: value for name, value in each.facts.items() if value not in (None, "")},
            "hash": each.hash[:12],
        }
        for each in entries[:PAGE]
    ]
    context: dict[str, Any] = {"entries": rows, "subject": subject, "broken": broken_among(session, entries[:PAGE])}
    more = rows[-1]["number"] if len(entries) > PAGE else None
    return page(request, "console/trail.html", title="Audit log", more=more, **context)
