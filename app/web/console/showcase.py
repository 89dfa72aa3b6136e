"""The showcase: films that their owners let everybody see, and which of them the landing page shows."""

from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session

from app.admin.showcase import choose_film, remove_film
from app.audit_log.actor import Actor
from app.errors import AppError
from app.jobs.film_labels import labels_of
from app.jobs.showcase import SHOWCASE_MAX, agreed_films
from app.reports.display_names import display_names
from app.roles import Role
from app.web.auth import AdminDep, FormDep, OperatorDep, SessionDep, Visitor, text_of
from app.web.language import gettext
from app.web.render import page, redirect

router = APIRouter(prefix="/admin/showcase", include_in_schema=False)

PAGE = 60


@router.get("")
def show_showcase(request: Request, session: SessionDep, visitor: AdminDep) -> Response:
    """Show the films of the landing page, and those that may be chosen for it."""
    return _showcase(request, session, visitor)


@router.post("/{job_id}")
def post_choice(request: Request, session: SessionDep, visitor: OperatorDep, form: FormDep, job_id: str) -> Response:
    """Show a film on the landing page, or remove it from there."""
    change = choose_film if text_of(form, "show") == "yes" else remove_film
    try:
        change(session, Actor.of(visitor.caller), job_id)
    except AppError as error:
        if error.code != "conflict":
            raise
        return _showcase(request, session, visitor, error=error)
    return redirect(request, "/admin/showcase")


def _showcase(request: Request, session: Session, visitor: Visitor, *, error: AppError | None = None) -> Response:
    rows = agreed_films(session, limit=PAGE)
    labels = labels_of(session, [job.id for _, job in rows])
    names = display_names(session, [each for agreement, job in rows for each in (agreement.agreed_by, job.account_id)])
    films: list[dict[str, Any]] = [
        {
            "id": agreement.id,
            "job_id": job.id,
            "title": labels[job.id].name if job.id in labels and labels[job.id].name else job.prompt.partition("\n")[0],
            "account": names.get(job.account_id, job.account_id),
            "account_id": job.account_id,
            "agreed_by": names.get(agreement.agreed_by, agreement.agreed_by),
            "agreed_at": agreement.agreed_at,
            "expires_at": job.files_expire_at,
            "is_shown": agreement.chosen_at is not None,
        }
        for agreement, job in rows
    ]
    context = {"films": films, "shown_max": SHOWCASE_MAX, "may_act": Role.OPERATOR in visitor.roles, "error": error}
    status = error.status if error else 200
    return page(request, "console/showcase.html", status=status, title=gettext("Showcase"), **context)
