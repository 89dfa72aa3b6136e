"""The inbox: what waits for this admin, and what needs an operator."""

from fastapi import APIRouter, Request, Response

from app.admin.inbox_counts import INBOX_COUNTS
from app.clock import now
from app.web.auth import AdminDep, SessionDep
from app.web.language import gettext
from app.web.render import page

router = APIRouter(prefix="/admin", include_in_schema=False)


@router.get("/inbox")
def show_inbox(request: Request, session: SessionDep, visitor: AdminDep) -> Response:
    """Show what waits for the visitor."""
    INBOX_COUNTS.forget()
    items = request.state.inbox()
    return page(request, "console/inbox.html", title=gettext("Inbox"), items=items, now=now(session))
