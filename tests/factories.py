"""Makers of rows for tests: an account with money, a job with its units, as a submission would have written them."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy.orm import Session

from app.accounts.accounts import create_account
from app.accounts.tables import Account
from app.catalog.models import load_catalog
from app.clock import now
from app.db import new_id
from app.dispatch.worker_registry import register_worker
from app.jobs.fair_share import join_share
from app.jobs.plan import FINISH_POOL, plan_units
from app.jobs.queue_tables import Unit
from app.jobs.spec import Shot, Spec
from app.jobs.tables import Job
from app.settings import get_settings


def make_spec(*, seconds: tuple[int, ...] = (2,), tier: str = "standard", model: str = "demo", fps: int = 8) -> Spec:
    shots = tuple(Shot(prompt=f"shot {n}", seconds=length, frames=length * fps) for n, length in enumerate(seconds))
    return Spec(
        model=model,
        mode="t2v",
        resolution="720P",
        ratio="16:9",
        width=1280,
        height=720,
        fps=fps,
        frames=sum(shot.frames for shot in shots),
        crossfade_frames=4,
        shots=shots,
        seed=7,
        service_tier=tier,
    )


def make_account(session: Session, name: str = "Alice") -> Account:
    return create_account(session, name=name, currency="CNY")


def make_queued_job(
    session: Session,
    account_id: str,
    *,
    spec: Spec | None = None,
    pool: str = "demo",
    weight: int = 1,
    concurrency: int = 100,
    at: datetime | None = None,
    **columns: Any,
) -> Job:
    """A job that only the dispatcher looks at: it has units and a share, but no money."""
    spec = spec or make_spec()
    moment = at or now(session)
    model = load_catalog(get_settings().catalog_dir)[spec.model]
    job = Job(
        id=new_id("video"),
        account_id=account_id,
        state="queued",
        stage="waiting",
        spec=spec.model_dump(mode="json"),
        spec_hash=spec.fingerprint(),
        model=spec.model,
        pool=pool,
        pricing={},
        price={"currency": "CNY", "list_total": "0.00", "total": "0.00", "lines": [], "book": "none"},
        total=0,
        list_total=0,
        currency="CNY",
        prompt="a test",
        extra={},
        resolved={},
        units_total=len([shot for shot in spec.shots for _ in model.segments(shot.frames, spec.fps)]),
        created_at=moment,
        **columns,
    )
    session.add(job)
    session.flush()
    for name in (pool, FINISH_POOL):
        join_share(session, name, account_id, weight=Decimal(weight), concurrency=concurrency)
    for number, columns in enumerate(plan_units(spec, model, pool)):
        priority, queued_at = columns.pop("class"), moment + timedelta(microseconds=number)
        columns["estimate"] = Decimal(columns["estimate"])
        session.add(Unit(**columns, priority=priority, job_id=job.id, account_id=account_id, queued_at=queued_at))
    session.flush()
    return job


def units_of(session: Session, job: Job) -> list[Unit]:
    return sorted(session.query(Unit).filter_by(job_id=job.id), key=lambda unit: (unit.kind, unit.shot, unit.position))


def make_worker(session: Session, worker_id: str, *, pools: tuple[str, ...] = ("demo",), state: str = "idle") -> None:
    """A registered worker process, which does nothing."""
    register_worker(session, worker_id, pools=list(pools), host="a host", pid=1, device="cpu", facts={}, state=state)
