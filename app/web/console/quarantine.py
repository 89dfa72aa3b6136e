"""Quarantine: the films that the check of their pictures refused. Only moderators see them, and each look is logged.

Whoever may decide on a film sees it until it is decided.
"""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from app.audit_log.actor import Actor
from app.clock import now
from app.file_delivery import deliver
from app.jobs.quarantine import jobs_in_review, list_quarantine, see_quarantined
from app.reports.display_names import display_names
from app.web.auth import ModeratorDep, QuarantineDep, SessionDep
from app.web.language import gettext
from app.web.render import page

router = APIRouter(prefix="/admin/quarantine", include_in_schema=False)

PAGE = 50


@router.get("")
def show_quarantine(
    request: Request,
    session: SessionDep,
    visitor: QuarantineDep,
    before: Annotated[datetime | None, Query()] = None,
    last: Annotated[str, Query(max_length=64)] = "",
) -> Response:
    """List the refused films, newest first, without showing anything of them."""
    films = list_quarantine(
        session, Actor.of(visitor.caller), limit=PAGE + 1, before=(before, last) if before else None
    )
    return page(
        request,
        "console/quarantine.html",
        title=gettext("Quarantine"),
        films=films[:PAGE],
        in_review=jobs_in_review(session, [film.job_id for film in films]),
        more=films[PAGE - 1] if len(films) > PAGE else None,
        accounts=display_names(session, [film.account_id for film in films]),
        now=now(session),
    )


@router.get("/{job_id}/film")
def send_film(request: Request, session: SessionDep, visitor: ModeratorDep, job_id: str) -> Response:
    """Send a refused film. Whoever reads any part of it is named in the audit log."""
    film = see_quarantined(session, Actor.of(visitor.caller), job_id)
    return deliver(
        session,
        request,
        film.key,
        account_id=film.account_id,
        filename=f"{job_id}.mp4",
        content_type="video/mp4",
        # No URL of the store's own, and no copy in the browser.
        redirects=False,
        cache_control="private, no-store",
    )
