"""Films of all accounts by state, and all that is known of one."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from app.accounts.tables import Account
from app.admin.jobs import cancel_job
from app.audit_log.actor import Actor
from app.dispatch.eta import Outlook, forecast, forecasts
from app.errors import AppError, not_found
from app.events.tables import Event
from app.jobs.find import receipt_of
from app.jobs.queue_tables import Take, Unit
from app.jobs.states import JobState, is_final
from app.jobs.tables import Job
from app.roles import Role
from app.wallet.funds import signed_amount_text
from app.wallet.tables import Transfer, TransferKind
from app.web.auth import AdminDep, FormDep, OperatorDep, SessionDep, Visitor
from app.web.console.capped_count import capped_count
from app.web.console.display_names import names_of
from app.web.render import go, page
from app.web.studio.film_card import TONES, span

router = APIRouter(prefix="/admin", include_in_schema=False)

PAGE = 40


@router.get("/films")
def show_films(
    request: Request,
    session: SessionDep,
    visitor: AdminDep,
    state: Annotated[str, Query(max_length=16)] = "",
    search: Annotated[str, Query(max_length=200)] = "",
    after: Annotated[str | None, Query(max_length=64)] = None,
) -> Response:
    """Show the films of all accounts, or those in one state, or that a word is found in."""
    states = [str(each) for each in JobState]
    counts = {each: capped_count(session, Job.created_at, Job.state == each) for each in states}
    query = select(Job, Account.name).join(Account, Account.id == Job.account_id)
    if search:
        found = Job.prompt.icontains(search, autoescape=True) | Account.name.icontains(search, autoescape=True)
        query = query.where(found | (Job.id == search) | (Job.account_id == search))
    if state in states:
        query = query.where(Job.state == state)
    last = session.get(Job, after) if after else None
    if last is not None:
        query = query.where(tuple_(Job.created_at, Job.id) < (last.created_at, last.id))
    rows = session.execute(query.order_by(Job.created_at.desc(), Job.id.desc()).limit(PAGE + 1)).all()
    outlooks = forecasts(session, [job for job, _ in rows[:PAGE]])
    films = [_film(job, name, outlooks[job.id]) for job, name in rows[:PAGE]]
    context: dict[str, Any] = {
        "films": films,
        "states": states,
        "counts": counts,
        "state": state,
        "search": search,
        "tones": TONES,
        "more": films[-1]["id"] if len(rows) > PAGE else None,
        "may_act": Role.OPERATOR in visitor.roles,
    }
    return page(request, "console/films.html", title="Films", **context)


@router.get("/films/{job_id}")
def show_film(request: Request, session: SessionDep, visitor: AdminDep, job_id: str) -> Response:
    """Show what became of one film: its money, every take with its worker and its end, and its events."""
    return film_page(request, session, visitor, job_id)


def film_page(
    request: Request, session: Session, visitor: Visitor, job_id: str, *, error: AppError | None = None
) -> Response:
    """Return the page of one film, with what was refused on it, if anything."""
    job = find_film(session, job_id)
    moved = _moved(session, job_id)
    left = left_to_refund(session, job)
    order = (Unit.kind.desc(), Unit.shot, Unit.position)
    names = names_of(session, [job.account_id])
    context: dict[str, Any] = {
        "job": job,
        "account": names.get(job.account_id, job.account_id),
        "tone": TONES[JobState(job.state)],
        "eta": _eta(forecast(session, job)),
        "receipt": receipt_of(session, job),
        "units": list(session.scalars(select(Unit).where(Unit.job_id == job_id).order_by(*order))),
        "takes": list(session.scalars(select(Take).where(Take.job_id == job_id).order_by(Take.fence))),
        "events": list(session.scalars(select(Event).where(Event.job_id == job_id).order_by(Event.sequence))),
        "may_cancel": Role.OPERATOR in visitor.roles and _may_cancel(job),
        "moved": [
            {"kind": each.kind, "amount": signed_amount_text(each), "reason": each.reason, "at": each.at, "id": each.id}
            for each in moved
        ],
        "left": left,
        "may_refund": Role.OPERATOR in visitor.roles and left > 0,
        "error": error,
        "done": request.query_params.get("done", ""),
    }
    return page(request, "console/film.html", status=error.status if error else 200, title="Film", **context)


def find_film(session: Session, job_id: str) -> Job:
    """Return a film of any account. Raises `not_found`."""
    job = session.get(Job, job_id)
    if job is None:
        raise not_found("video", job_id)
    return job


def left_to_refund(session: Session, job: Job) -> int:
    """Return what is left of a film's charge, in minor units: what was taken for it less what was given back."""
    moved = _moved(session, job.id)
    taken, given = (
        sum(each.amount for each in moved if each.kind == kind) for kind in (TransferKind.CAPTURE, TransferKind.REFUND)
    )
    return taken - given


def _moved(session: Session, job_id: str) -> list[Transfer]:
    query = select(Transfer).where(Transfer.job_id == job_id).order_by(Transfer.at, Transfer.id)
    return list(session.scalars(query))


@router.post("/films/{job_id}/cancellation")
def post_cancellation(
    request: Request, session: SessionDep, visitor: OperatorDep, form: FormDep, job_id: str
) -> Response:
    """Cancel somebody's film: what was made before is delivered and paid, nothing else."""
    cancel_job(session, Actor.of(visitor.caller), job_id)
    return go(request, f"/admin/films/{job_id}")


def _film(job: Job, account: str, outlook: Outlook) -> dict[str, Any]:
    return {
        "id": job.id,
        "account_id": job.account_id,
        "account": account,
        "prompt": job.prompt.partition("\n")[0],
        "state": job.state,
        "stage": job.stage if not is_final(job.state) else "",
        "progress": job.progress,
        "eta": _eta(outlook),
        "model": job.model,
        "error": job.error_message,
        "total": job.total,
        "currency": job.currency,
        "test": job.test,
        "created_at": job.created_at,
        "may_cancel": _may_cancel(job),
    }


def _eta(outlook: Outlook) -> str:
    """Return when a film will probably be ready, in words, or nothing where that cannot be said."""
    eta = outlook.eta()
    return "" if eta is None else f"about {span(eta['seconds_p50'], eta['seconds_p90'])}"


def _may_cancel(job: Job) -> bool:
    return not is_final(job.state) and job.cancel_requested_at is None and job.stage != "finishing"
