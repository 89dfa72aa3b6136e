"""Workers, the queues of their pools, pauses of intake, and the terms of models."""

from typing import Any

from fastapi import APIRouter, Request, Response

from app.admin.operations import drain_worker
from app.audit_log.actor import Actor
from app.catalog.models import load_catalog
from app.clock import now
from app.db import commit_early
from app.dispatch.unfit import unfit_units
from app.jobs.intake import list_pauses, pause_intake, resume_intake
from app.jobs.model_terms import acknowledge_terms, acknowledgement_of, models_with_terms, terms_hash
from app.reports.display_names import display_names
from app.reports.worker_history import read_worker, read_worker_figures
from app.reports.workers import list_worker_rows, pools_without_others, read_pool_queues, standing_queues
from app.roles import Role
from app.settings import get_settings
from app.wakeups import wakeups_waiting
from app.web.auth import AdminDep, FormDep, OperatorDep, SessionDep, text_of
from app.web.language import gettext
from app.web.render import page, redirect

router = APIRouter(prefix="/admin", include_in_schema=False)

WORKER_TONES = {"idle": "good", "busy": "busy", "starting": "info", "draining": "info", "gone": ""}


@router.get("/workers")
def show_workers(request: Request, session: SessionDep, visitor: AdminDep) -> Response:
    """Show the workers, the queues of their pools, and what is paused."""
    pauses = list_pauses(session)
    names = display_names(session, [each for pause in pauses for each in (pause.account_id, pause.paused_by)])
    catalog = load_catalog(get_settings().catalog_dir)
    known_pools = {model.pool for model in catalog.values() if model.enabled}
    workers = list_worker_rows(session)
    queues = read_pool_queues(session, known_pools | {"finish"})
    context: dict[str, Any] = {
        "workers": workers,
        "figures": read_worker_figures(session),
        "alone": pools_without_others(workers),
        "standing": standing_queues(workers, queues),
        "unfit": unfit_units(session),
        "queues": queues,
        "pauses": [
            {
                "id": each.id,
                "model": each.model,
                "account": names.get(each.account_id or ""),
                "reason": each.reason,
                "by": names.get(each.paused_by, each.paused_by),
                "at": each.paused_at,
            }
            for each in pauses
        ],
        "models": sorted(catalog),
        "terms": [
            {"model": each, "accepted": acknowledgement_of(session, each), "words": terms_hash(each)}
            for each in models_with_terms()
        ],
        "catalog": [
            {"model": each, "aliases": catalog.aliases_of(each.id), "is_retired": each.is_retired(now(session))}
            for each in catalog.values()
            if each.enabled
        ],
        "tones": WORKER_TONES,
        "now": now(session),
        "may_act": Role.OPERATOR in visitor.roles,
    }
    # Redis is asked when the rows have been read: it may be slow.
    commit_early(session)
    wakeups = {queue.pool: wakeups_waiting(queue.pool) for queue in context["queues"]}
    return page(request, "console/workers.html", title=gettext("Workers"), wakeups=wakeups, **context)


@router.get("/workers/{worker_id}")
def show_worker(request: Request, session: SessionDep, visitor: AdminDep, worker_id: str) -> Response:
    """Show one worker: its machine, and its takes of the last day."""
    context: dict[str, Any] = {"shown": read_worker(session, worker_id), "tones": WORKER_TONES, "now": now(session)}
    return page(request, "console/worker.html", title=gettext("Worker"), **context)


@router.post("/workers/{worker_id}/drain")
def post_drain(request: Request, session: SessionDep, visitor: OperatorDep, form: FormDep, worker_id: str) -> Response:
    """Drain a worker (it ends its take and claims no other), or resume it."""
    drain_worker(session, Actor.of(visitor.caller), worker_id, drain=text_of(form, "drain") == "true")
    return redirect(request, "/admin/workers")


@router.post("/pauses")
def post_pause(request: Request, session: SessionDep, visitor: OperatorDep, form: FormDep) -> Response:
    """Pause the intake of new films for a model, an account, both, or all."""
    pause_intake(
        session,
        Actor.of(visitor.caller),
        model=text_of(form, "model") or None,
        account_id=text_of(form, "account") or None,
        reason=text_of(form, "reason"),
    )
    return redirect(request, "/admin/workers")


@router.post("/pauses/{pause_id}/end")
def post_pause_end(
    request: Request, session: SessionDep, visitor: OperatorDep, form: FormDep, pause_id: str
) -> Response:
    """End a pause: accept new films again."""
    resume_intake(session, Actor.of(visitor.caller), pause_id)
    return redirect(request, "/admin/workers")


@router.post("/models/{model_id}/acknowledge")
def post_acknowledge(
    request: Request, session: SessionDep, visitor: OperatorDep, form: FormDep, model_id: str
) -> Response:
    """Accept a model's terms for this service, in the words that the page showed."""
    acknowledge_terms(session, Actor.of(visitor.caller), model_id, words=text_of(form, "words"))
    return redirect(request, "/admin/workers")
