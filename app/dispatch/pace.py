"""Measured pace: seconds per frame by model and resolution, as moving quantiles, for estimates and honest ETAs."""

from decimal import Decimal

from sqlalchemy.orm import Session

from app.dispatch.tables import Pace
from app.jobs.queue_tables import Take

# A take moves the p50 and p90 estimates by this share of their distance (stochastic quantile approximation, after
# Robbins and Monro): enough to follow a new GPU within some tens of takes, too little for one outlier to matter.
GAIN = Decimal("0.1")
_SCALE = Decimal("0.000001")


def learn(session: Session, take: Take, *, frames: int, resolution: str) -> None:
    """Take an ended take's duration into the pace of its model and resolution (`-` for a finish)."""
    if not frames or take.ended_at is None:
        return
    seconds = Decimal(str((take.ended_at - take.started_at).total_seconds())) / frames
    gpu = take.gpu_seconds / frames
    key = (take.model, take.kind, resolution)
    pace = session.get(Pace, key, with_for_update=True)
    if pace is None:
        session.add(Pace(model=key[0], kind=key[1], shape=key[2], samples=1, p50=seconds, p90=seconds, gpu_p50=gpu))
        return
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
    pace = session.get(Pace, (model, kind, resolution))
    if pace is None:
        return Decimal(frames), Decimal(frames) * 2
    return pace.p50 * frames, pace.p90 * frames
