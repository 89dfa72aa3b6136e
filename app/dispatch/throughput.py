"""Measured pace: seconds per frame by model and resolution, as moving quantiles, for estimates and honest ETAs."""

from decimal import Decimal

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.dispatch.tables import Throughput
from app.jobs.queue_tables import Take, Unit

# A take moves the p50 and p90 estimates by this share of their distance (stochastic quantile approximation, after
# Robbins and Monro): enough to follow a new GPU within some tens of takes, too little for one outlier to matter.
GAIN = Decimal("0.1")
_SCALE = Decimal("0.000001")
_CHARGE = Decimal("0.001")


def record_throughput(session: Session, take: Take, *, frames: int, resolution: str) -> None:
    """Take an ended take's duration into the pace of its model and resolution (`-` for a finish)."""
    if not frames or take.ended_at is None:
        return
    seconds = Decimal(str((take.ended_at - take.started_at).total_seconds())) / frames
    gpu = take.gpu_seconds / frames
    first = {"model": take.model, "kind": take.kind, "shape": resolution}
    # Two takes may be the first of their shape at once; the row that is not written here is there by then.
    row = insert(Throughput).values(**first, samples=0, p50=seconds, p90=seconds, gpu_p50=gpu)
    session.execute(row.on_conflict_do_nothing())
    pace = session.get_one(Throughput, tuple(first.values()), with_for_update=True, populate_existing=True)
    pace.samples += 1
    pace.p50 = _step(pace.p50, seconds, Decimal("0.5"))
    pace.p90 = _step(pace.p90, seconds, Decimal("0.9"))
    pace.gpu_p50 = _step(pace.gpu_p50, gpu, Decimal("0.5"))


def _step(estimate: Decimal, sample: Decimal, quantile: Decimal) -> Decimal:
    """Move a quantile estimate towards a sample, more eagerly on the side where the quantile lies."""
    weight = quantile if sample > estimate else 1 - quantile
    return (estimate + 2 * GAIN * weight * (sample - estimate)).quantize(_SCALE)


def estimate_seconds(session: Session, model: str, kind: str, resolution: str, frames: int) -> tuple[Decimal, Decimal]:
    """Return the p50 and p90 seconds that a take of so many frames lasts; one second a frame where nothing is known."""
    pace = session.get(Throughput, (model, kind, resolution))
    if pace is None:
        return Decimal(frames), Decimal(frames) * 2
    return pace.p50 * frames, pace.p90 * frames


def estimate_use(session: Session, unit: Unit, *, resolution: str) -> Decimal:
    """Return what a claim charges for a unit: the GPU-seconds that its like took, the seconds of a finish.

    What nothing is known of is charged its plan's estimate, the length of the film.
    """
    pace = session.get(Throughput, (unit.model, unit.kind, resolution))
    if pace is None:
        return unit.estimate
    return ((pace.gpu_p50 if unit.kind == "segment" else pace.p50) * unit.frames).quantize(_CHARGE)
