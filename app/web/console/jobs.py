"""Films of all accounts by state, and the details of one."""

from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.orm import Session

from app.admin.jobs import cancel_job, has_film, revoke_job_links, view_film
from app.admin.moderation import MODERATORS
from app.audit_log.actor import Actor
from app.clock import now
from app.dispatch.eta import Outlook, forecast, forecasts
from app.errors import AppError
from app.jobs.find import receipt_of, receipts_of
from app.jobs.links import make_link
from app.jobs.review import open_review_of
from app.jobs.showcase import may_be_shown, open_agreement
from app.jobs.states import JobState, is_final
from app.jobs.tables import Job, ReceiptRow
from app.reports.accounts import charge_of
from app.reports.display_names import display_names
from app.reports.jobs import (
    count_jobs,
    events_of,
    find_any_job,
    refundable_amount,
    search_jobs,
    takes_of,
    transfers_of,
    units_of,
)
from app.roles import Role
from app.wallet.funds import signed_text
from app.web.auth import AdminDep, FormDep, OperatorDep, SessionDep, Visitor
from app.web.forms import parse_day
from app.web.language import gettext
from app.web.render import page, redirect
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
    until: Annotated[str, Query(max_length=10)] = "",
    after: Annotated[str | None, Query(max_length=64)] = None,
) -> Response:
    """Show the films of all accounts, or those that match a state, a search, or a day and what was before it."""
    states = [str(each) for each in JobState]
    before = parse_day(until, visitor.zone, "until", days=1)
    rows, has_more = search_jobs(
        session, search, state=state if state in states else None, ordered_before=before, after=after, limit=PAGE
    )
    outlooks = forecasts(session, [job for job, _ in rows])
    receipts = receipts_of(session, [job for job, _ in rows])
    films = [_film(job, name, outlooks[job.id], receipts.get(job.id)) for job, name in rows]
    context: dict[str, Any] = {
        "films": films,
        "states": states,
        "counts": count_jobs(session),
        "state": state,
        "search": search,
        "until": until,
        "tones": TONES,
        "more": films[-1]["id"] if has_more else None,
        "may_act": Role.OPERATOR in visitor.roles,
    }
    return page(request, "console/films.html", title=gettext("Films"), **context)


@router.get("/films/{job_id}")
def show_film(request: Request, session: SessionDep, visitor: AdminDep, job_id: str) -> Response:
    """Show one film: its timeline, charges, segments, takes with their workers, and events."""
    return film_page(request, session, visitor, job_id)


def film_page(
    request: Request,
    session: Session,
    visitor: Visitor,
    job_id: str,
    *,
    error: AppError | None = None,
    is_shown: bool = False,
) -> Response:
    """Return the page of one film, with an error if there was one; with the film itself where `is_shown`."""
    job = find_any_job(session, job_id)
    refundable = refundable_amount(session, job_id)
    showcase = open_agreement(session, job_id)
    names = display_names(session, [job.account_id, showcase.agreed_by if showcase else None])
    receipt = receipt_of(session, job)
    context: dict[str, Any] = {
        "job": _details(job),
        "account": names.get(job.account_id, job.account_id),
        "tone": TONES[JobState(job.state)],
        "eta": _eta(forecast(session, job)),
        "review": open_review_of(session, job_id) if visitor.roles & set(MODERATORS) else None,
        "receipt": None if receipt is None else {"number": receipt.number, "total": receipt.total},
        "units": units_of(session, job_id),
        "takes": takes_of(session, job_id),
        "events": events_of(session, job_id),
        "may_cancel": Role.OPERATOR in visitor.roles and _may_cancel(job),
        "transfers": [
            {"kind": each.kind, "amount": signed_text(each), "reason": each.reason, "at": each.at, "id": each.id}
            for each in transfers_of(session, job_id)
        ],
        "refundable": refundable,
        "may_refund": Role.OPERATOR in visitor.roles and refundable > 0,
        "showcase": showcase,
        "agreed_by": names.get(showcase.agreed_by) if showcase else None,
        "may_choose": Role.OPERATOR in visitor.roles and may_be_shown(job, now(session)),
        "may_view": Role.OPERATOR in visitor.roles and has_film(job, now(session)),
        # The paths of signed links: they expire, and revoking links voids them.
        "film": {each: urlsplit(make_link(session, job, each)).path for each in ("video", "thumbnail")}
        if is_shown
        else None,
        "error": error,
        "done": request.query_params.get("done", ""),
    }
    return page(request, "console/film.html", status=error.status if error else 200, title=gettext("Film"), **context)


@router.post("/films/{job_id}/cancellation")
def post_cancellation(
    request: Request, session: SessionDep, visitor: OperatorDep, form: FormDep, job_id: str
) -> Response:
    """Cancel a customer's film: what was rendered before is delivered and charged, nothing else."""
    cancel_job(session, Actor.of(visitor.caller), job_id)
    return redirect(request, f"/admin/films/{job_id}")


@router.post("/films/{job_id}/view")
def post_view(request: Request, session: SessionDep, visitor: OperatorDep, form: FormDep, job_id: str) -> Response:
    """Show the film itself on its page; the audit log says who saw it."""
    view_film(session, Actor.of(visitor.caller), job_id)
    return film_page(request, session, visitor, job_id, is_shown=True)


@router.post("/films/{job_id}/links/revocation")
def post_links_revocation(
    request: Request, session: SessionDep, visitor: OperatorDep, form: FormDep, job_id: str
) -> Response:
    """Revoke the links to the film that work without a key."""
    revoke_job_links(session, Actor.of(visitor.caller), job_id)
    return redirect(request, f"/admin/films/{job_id}?done=links")


_DETAILS = (
    *("id", "account_id", "prompt", "currency", "test", "state", "stage", "progress", "error_code", "error_message"),
    *("created_at", "started_at", "finished_at", "start_by", "not_after", "cancel_requested_at", "door", "spec"),
    *("files_removed_at", "files_expire_at", "model", "model_alias", "list_total", "total"),
)


def _details(job: Job) -> dict[str, Any]:
    return {name: getattr(job, name) for name in _DETAILS}


def _film(job: Job, account: str, outlook: Outlook, receipt: ReceiptRow | None) -> dict[str, Any]:
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
        "charged": charge_of(job, receipt),
        "currency": job.currency,
        "test": job.test,
        "created_at": job.created_at,
        "may_cancel": _may_cancel(job),
    }


def _eta(outlook: Outlook) -> str:
    """Return the estimated time until a film is ready as text; empty where there is no estimate."""
    eta = outlook.eta()
    return "" if eta is None else gettext("about %(span)s", span=span(eta["seconds_p50"], eta["seconds_p90"]))


def _may_cancel(job: Job) -> bool:
    return not is_final(job.state) and job.cancel_requested_at is None and job.stage != "finishing"
