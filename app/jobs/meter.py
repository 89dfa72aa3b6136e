"""The resources that a job used: the meters of its takes, added up. They explain margins; they never make a price."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy.orm import Session

from app.catalog.pools import pool_plan
from app.db import after_commit
from app.jobs.queue_tables import Take
from app.jobs.schemas import MeterOut
from app.jobs.states import TakeState
from app.metrics import record_take_end
from app.settings import get_settings


def add_meters(takes: Iterable[tuple[dict[str, Any] | None, Decimal]]) -> MeterOut:
    """Add up the takes of a job that have ended, lost ones included: the meter and the GPU-seconds of each."""
    seconds, cpu_seconds = Counter[str](), Counter[str]()
    count, peak, gpu_seconds = 0, 0, Decimal(0)
    for meter, take_gpu_seconds in takes:
        meter = meter or {}
        seconds.update(meter.get("seconds", {}))
        cpu_seconds.update(meter.get("cpu_seconds", {}))
        peak = max(peak, int(meter.get("peak_memory_bytes", 0)))
        count, gpu_seconds = count + 1, gpu_seconds + take_gpu_seconds
    return MeterOut(
        takes=count,
        seconds={stage: round(spent, 3) for stage, spent in seconds.items()},
        cpu_seconds={stage: round(spent, 3) for stage, spent in cpu_seconds.items()},
        gpu_seconds=f"{gpu_seconds:.3f}",
        peak_memory_bytes=peak,
    )


def end_take(
    session: Session, take: Take, state: TakeState, *, ended_at: datetime, meter: dict[str, Any] | None = None
) -> None:
    """Record how a take ended and what it used, and count it in the metrics after the commit."""
    take.state, take.ended_at, take.meter = state, ended_at, meter
    metered = (meter or {}).get("gpu_seconds")
    take.gpu_seconds = unmetered_gpu_seconds(take, ended_at) if metered is None else Decimal(str(metered))
    facts = {"kind": take.kind, "pool": take.pool, "model": take.model, "outcome": str(state)}
    take.gpu_cost = take.gpu_seconds * gpu_second_cost(take.pool, take.gpu, ended_at)
    gpu_seconds = float(take.gpu_seconds)
    after_commit(session, lambda: record_take_end(**facts, gpu_seconds=gpu_seconds, meter=meter))


def gpu_second_cost(pool: str, gpu: str | None, at: datetime) -> Decimal:
    """Return what a GPU-second of a pool and class of GPU cost at a moment, in the book's currency."""
    settings = get_settings()
    known = pool_plan(pool, settings.catalog_dir).gpu_second_cost(gpu, at)
    return Decimal(settings.gpu_second_cost) if known is None else known


def unmetered_gpu_seconds(take: Take, ended_at: datetime) -> Decimal:
    """Return the GPU-seconds of a take without a meter: the whole time it ran; 0 for a finish, which uses no GPU."""
    if take.kind == "finish":
        return Decimal(0)
    return Decimal(str((ended_at - take.started_at).total_seconds()))
