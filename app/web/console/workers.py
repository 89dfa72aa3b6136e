"""Workers and their queues, and pauses of intake."""

from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.admin.operations import drain_worker
from app.audit_log.actor import Actor
from app.catalog.models import load_catalog
from app.clock import now
from app.jobs.intake import list_pauses, pause_intake, resume_intake
from app.jobs.queue_tables import Take, Unit, Worker
from app.roles import Role
from app.settings import get_settings
from app.wakeups import wakeups_waiting
from app.web.auth import AdminDep, FormDep, OperatorDep, SessionDep, text_of
from app.web.console.display_names import names_of
from app.web.render import go, page

router = APIRouter(prefix="/admin", include_in_schema=False)

WORKER_TONES = {"idle": "good", "busy": "busy", "starting": "info", "draining": "info", "gone": ""}


@router.get("/workers")
def show_workers(request: Request, session: SessionDep, visitor: AdminDep) -> Response:
    """Show the workers, the queues of their pools, and what is paused."""
    pauses = list_pauses(session)
    names = names_of(session, [each for pause in pauses for each in (pause.account_id, pause.paused_by)])
    context: dict[str, Any] = {
        "workers": _workers(session),
        "queues": _queues(session),
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
        "models": sorted(load_catalog(get_settings().catalog_dir)),
        "tones": WORKER_TONES,
        "now": now(session),
        "may_act": Role.OPERATOR in visitor.roles,
    }
    return page(request, "console/workers.html", title="Workers", **context)


@router.post("/workers/{worker_id}/drain")
def post_drain(request: Request, session: SessionDep, visitor: OperatorDep, form: FormDep, worker_id: str) -> Response:
    """Ask a worker to end its take and begin no other, or to go on."""
    drain_worker(session, Actor.of(visitor.caller), worker_id, drain=text_of(form, "drain") == "true")
    return go(request, "/admin/workers")


@router.post("/pauses")
def post_pause(request: Request, session: SessionDep, visitor: OperatorDep, form: FormDep) -> Response:
    """Pause the intake of new films for a model, an account, both, or altogether."""
    pause_intake(
        session,
        Actor.of(visitor.caller),
        model=text_of(form, "model") or None,
        account_id=text_of(form, "account") or None,
        reason=text_of(form, "reason"),
    )
    return go(request, "/admin/workers")


@router.post("/pauses/{pause_id}/end")
def post_pause_end(
    request: Request, session: SessionDep, visitor: OperatorDep, form: FormDep, pause_id: str
) -> Response:
    """Accept new films again."""
    resume_intake(session, Actor.of(visitor.caller), pause_id)
    return go(request, "/admin/workers")


def _workers(session: Session) -> list[dict[str, Any]]:
    """Return the workers, those at work first; of a busy one, what it works on."""
    rows = session.execute(
        select(Worker, Take)
        .outerjoin(Take, Take.id == Worker.take_id)
        .order_by((Worker.state == "gone").asc(), Worker.seen_at.desc())
        .limit(200)
    )
    return [
        {
            "id": worker.id,
            "host": worker.host,
            "device": worker.device,
            "device_name": worker.facts.get("name"),
            "memory_bytes": worker.facts.get("memory_bytes"),
            "pools": list(worker.pools),
            "state": worker.state,
            "resident_model": worker.resident_model,
            "drain_requested": worker.drain_requested,
            "seen_at": worker.seen_at,
            "job_id": take.job_id if take else None,
            "work": f"{take.kind}, step {take.step} of {take.steps}"
            if take and take.steps
            else take.kind
            if take
            else "",
        }
        for worker, take in rows
    ]


def _queues(session: Session) -> list[dict[str, Any]]:
    """Return per pool what waits and runs, and how many rings of its bell lie unanswered."""
    rows = session.execute(
        select(Unit.pool, Unit.state, func.count())
        .where(Unit.state.in_(("ready", "running", "blocked")))
        .group_by(Unit.pool, Unit.state)
    )
    pools: dict[str, dict[str, int]] = {}
    for pool, state, number in rows:
        pools.setdefault(pool, {})[state] = number
    known = {model.pool for model in load_catalog(get_settings().catalog_dir).values() if model.enabled}
    return [
        {
            "pool": pool,
            "ready": pools.get(pool, {}).get("ready", 0),
            "running": pools.get(pool, {}).get("running", 0),
            "blocked": pools.get(pool, {}).get("blocked", 0),
            "rings": wakeups_waiting(pool),
        }
        for pool in sorted(known | set(pools) | {"finish"})
    ]
