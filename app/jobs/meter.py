"""What a job took: the meters of its takes, added up. It explains a wait and a margin; it never makes a price."""

from collections import Counter
from datetime import datetime
from decimal import Decimal

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.jobs.queue_tables import Take
from app.jobs.shapes import MeterOut


def meter_of(session: Session, job_id: str) -> MeterOut:
    """Add up the takes of a job that have ended, lost ones included."""
    takes = session.scalars(select(Take).where(Take.job_id == job_id, Take.state != "running")).all()
    seconds, cpu_seconds = Counter[str](), Counter[str]()
    peak = 0
    for take in takes:
        meter = take.meter or {}
        seconds.update(meter.get("seconds", {}))
        cpu_seconds.update(meter.get("cpu_seconds", {}))
        peak = max(peak, int(meter.get("peak_memory_bytes", 0)))
    return MeterOut(
        takes=len(takes),
        seconds={stage: round(spent, 3) for stage, spent in seconds.items()},
        cpu_seconds={stage: round(spent, 3) for stage, spent in cpu_seconds.items()},
        gpu_seconds=f"{sum((take.gpu_seconds for take in takes), Decimal(0)):.3f}",
        peak_memory_bytes=peak,
    )


def unmetered_gpu_seconds(take: Take, ended_at: datetime) -> Decimal:
    """Return the GPU-seconds of a take that ended without a meter: as long as it held its GPU; a finish holds none."""
    if take.kind == "finish":
        return Decimal(0)
    return Decimal(str((ended_at - take.started_at).total_seconds()))
