"""Operations routes: intake pauses, jobs of all accounts, workers, webhook deliveries, and the audit log."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel, Field
from sqlalchemy.orm import Session

from app.admin import jobs, operations
from app.api.admin.access import AdminCaller, After, Limit, OperatorCaller
from app.api.admin.schemas import PauseIn
from app.audit_log.actor import Actor
from app.audit_log.log import list_entries
from app.audit_log.tables import AuditEntry
from app.audit_log.values import shown_facts
from app.catalog.models import require_model
from app.clock import now
from app.db import commit_early
from app.dispatch.eta import forecasts
from app.jobs import intake
from app.jobs.find import receipts_of
from app.jobs.present import show_job
from app.jobs.queue_tables import Worker
from app.jobs.schemas import VideoOut
from app.jobs.states import JobState
from app.jobs.tables import IntakePause, Job
from app.request_session import SessionDep
from app.settings import get_settings
from app.webhooks.schemas import DeliveryOut
from app.webhooks.tables import DeliveryState

router = APIRouter(prefix="/v1/admin", tags=["admin: operations"])

Account = Annotated[str | None, Query(max_length=64)]
# The summary of jobs includes those that ended within this time.
SUMMARY_PERIOD = timedelta(days=1)


class PauseOut(BaseModel):
    """A pause of intake."""

    id: str
    object: Literal["intake_pause"] = "intake_pause"
    model: str | None
    account: str | None
    reason: str
    paused_by: str
    paused_at: datetime
    resumed_by: str | None
    resumed_at: datetime | None


class WorkerOut(BaseModel):
    """A worker process and its GPU, as of its last heartbeat."""

    id: str
    object: Literal["worker"] = "worker"
    pools: list[str]
    host: str
    device: str
    device_name: str | None = Field(None, description="Name of the GPU, or of the CPU if there is none.")
    memory_bytes: int | None = Field(
        None, description="Memory of the GPU; without a GPU, the host memory that the process may use."
    )
    state: str
    resident_model: str | None
    take: str | None
    drain_requested: bool
    started_at: datetime
    seen_at: datetime
    facts: dict[str, Any]


class AuditEntryOut(BaseModel):
    """One recorded action, chained to the entry before it by its hash."""

    number: int
    object: Literal["audit_entry"] = "audit_entry"
    at: datetime
    actor: str
    via: str
    act: str
    subject: str
    facts: dict[str, Any]
    hash: str


class OperationsPage(BaseModel):
    """A page, newest first."""

    object: Literal["list"] = "list"
    data: list[dict[str, Any]]
    last_id: str | None
    has_more: bool


class JobCount(BaseModel):
    """The number of jobs in a state and stage."""

    status: str
    stage: str
    test: bool
    count: int


@router.get("/intake_pauses")
def list_intake_pauses(session: SessionDep, caller: AdminCaller) -> dict[str, Any]:
    """List the active pauses."""
    return {"object": "list", "data": [_pause(each) for each in intake.list_pauses(session)]}


@router.post("/intake_pauses", status_code=201)
def pause_intake(session: SessionDep, caller: OperatorCaller, body: PauseIn) -> PauseOut:
    """Stop accepting new jobs: of a model, of an account, of both together, or all. Accepted jobs continue."""
    if body.model is not None:
        require_model(body.model, get_settings().catalog_dir)
    pause = intake.pause_intake(
        session, Actor.of(caller), model=body.model, account_id=body.account, reason=body.reason
    )
    return _pause(pause)


@router.delete("/intake_pauses/{pause_id}")
def resume_intake(session: SessionDep, caller: OperatorCaller, pause_id: str) -> PauseOut:
    """End a pause, so that new jobs are accepted again."""
    return _pause(intake.resume_intake(session, Actor.of(caller), pause_id))


@router.get("/jobs")
def list_jobs(
    session: SessionDep,
    caller: AdminCaller,
    state: JobState | None = None,
    account: Account = None,
    model: Annotated[str | None, Query(max_length=64)] = None,
    after: After = None,
    limit: Limit = 50,
) -> OperationsPage:
    """List jobs of all accounts, newest first."""
    jobs, more = operations.list_all_jobs(
        session, state=state, account_id=account, model=model, after=after, limit=limit
    )
    data = [
        {"account": job.account_id, **video.model_dump(mode="json")}
        for job, video in zip(jobs, _videos(session, jobs), strict=True)
    ]
    return OperationsPage(data=data, last_id=jobs[-1].id if jobs else None, has_more=more)


@router.get("/jobs/summary")
def count_jobs(session: SessionDep, caller: AdminCaller) -> dict[str, Any]:
    """Count the unfinished jobs, and those that ended within a day, by state and stage."""
    rows = operations.jobs_by_state(session, since=now(session) - SUMMARY_PERIOD)
    data = [JobCount(status=row.state, stage=row.stage, test=row.test, count=row.count) for row in rows]
    return {"object": "list", "data": data}


@router.post("/jobs/{job_id}/cancel")
def cancel_job(session: SessionDep, caller: OperatorCaller, job_id: str) -> VideoOut:
    """Cancel a job of any account: what was rendered before is delivered and charged, nothing else."""
    job = jobs.cancel_job(session, Actor.of(caller), job_id)
    commit_early(session)
    return _videos(session, [job])[0]


@router.get("/workers")
def list_workers(session: SessionDep, caller: AdminCaller, gone: bool = False) -> dict[str, Any]:
    """List the registered workers."""
    return {"object": "list", "data": [_worker(each) for each in operations.list_workers(session, gone=gone)]}


@router.post("/workers/{worker_id}/drain")
def drain_worker(session: SessionDep, caller: OperatorCaller, worker_id: str) -> WorkerOut:
    """Ask a worker to finish or release its current take and to start no other."""
    return _worker(operations.drain_worker(session, Actor.of(caller), worker_id))


@router.post("/workers/{worker_id}/resume")
def resume_worker(session: SessionDep, caller: OperatorCaller, worker_id: str) -> WorkerOut:
    """Let a draining worker accept work again."""
    return _worker(operations.drain_worker(session, Actor.of(caller), worker_id, drain=False))


@router.get("/deliveries")
def list_deliveries(
    session: SessionDep,
    caller: AdminCaller,
    state: DeliveryState | None = None,
    account: Account = None,
    after: After = None,
    limit: Limit = 50,
) -> OperationsPage:
    """List webhook deliveries of all accounts, newest first."""
    rows, more = operations.list_all_deliveries(session, state=state, account_id=account, after=after, limit=limit)
    data = [{"account": owner, **delivery.model_dump(mode="json")} for owner, delivery in rows]
    return OperationsPage(data=data, last_id=data[-1]["id"] if data else None, has_more=more)


@router.post("/deliveries/{delivery_id}/redeliver")
def redeliver_delivery(session: SessionDep, caller: OperatorCaller, delivery_id: str) -> DeliveryOut:
    """Deliver a webhook event again now."""
    return operations.redeliver_event(session, Actor.of(caller), delivery_id)


@router.get("/audit_trail")
def list_audit_entries(
    session: SessionDep,
    caller: AdminCaller,
    subject: Annotated[str | None, Query(max_length=64)] = None,
    before: Annotated[int | None, Query(ge=1)] = None,
    since: Annotated[AwareDatetime | None, Query()] = None,
    limit: Limit = 50,
) -> dict[str, Any]:
    """List audit entries, newest first: of one subject or all, with numbers below `before`, from `since` on."""
    entries = list_entries(session, subject=subject, before=before, since=since, limit=limit + 1)
    facts = shown_facts(session, entries[:limit])
    data = [_entry(each, facts[each.number]) for each in entries[:limit]]
    return {"object": "list", "data": data, "has_more": len(entries) > limit}


def _pause(pause: IntakePause) -> PauseOut:
    names = ("id", "model", "reason", "paused_by", "paused_at", "resumed_by", "resumed_at")
    return PauseOut(account=pause.account_id, **{name: getattr(pause, name) for name in names})


def _videos(session: Session, jobs: Sequence[Job]) -> list[VideoOut]:
    outlooks, receipts = forecasts(session, jobs), receipts_of(session, jobs)
    return [
        show_job(job, receipt=receipts.get(job.id), queue_position=outlook.position, eta=outlook.eta())
        for job, outlook in ((job, outlooks[job.id]) for job in jobs)
    ]


def _worker(worker: Worker) -> WorkerOut:
    names = ("id", "pools", "host", "device", "state", "resident_model", "drain_requested", "started_at", "seen_at")
    return WorkerOut(
        take=worker.take_id,
        device_name=worker.facts.get("name"),
        memory_bytes=worker.facts.get("memory_bytes"),
        facts=worker.facts,
        **{name: getattr(worker, name) for name in names},
    )


def _entry(entry: AuditEntry, facts: dict[str, Any]) -> AuditEntryOut:
    names = ("number", "at", "actor", "via", "act", "subject", "hash")
    return AuditEntryOut(facts=facts, **{name: getattr(entry, name) for name in names})
