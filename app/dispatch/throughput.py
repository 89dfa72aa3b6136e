"""Measured throughput: seconds per frame by model and resolution, as moving quantiles, for estimates and ETAs."""

from decimal import Decimal

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from app.db import after_commit, autocommit
from app.jobs.queue_tables import Take
from app.sql_statements import sql_file

# A take moves the p50 and p90 estimates by this share of their distance (stochastic quantile approximation, after
# Robbins and Monro): enough to follow a new GPU within some tens of takes, too little for one outlier to matter.
GAIN = Decimal("0.1")
# Seconds per frame, p50 and p90, before the first take was measured: of the shipped model, which runs on any machine,
# and of joining a film; then of any other model. forecast.sql and queue_snapshot.sql repeat them, and a test holds them
# equal.
PRIORS = {
    "demo": (Decimal("0.1"), Decimal("0.4")),
    "finish": (Decimal("0.02"), Decimal("0.06")),
}
PRIOR = (Decimal(1), Decimal(2))
_CHARGE = Decimal("0.001")
_RECORD = sql_file("app.dispatch", "record_throughput.sql")


def record_throughput_after_commit(session: Session, take: Take, *, frames: int, resolution: str) -> None:
    """Record an ended take's duration once its transaction has committed, in a transaction of its own.

    One row of throughput is shared by all takes of a model and resolution. A settlement that held it would stop every
    other settlement for as long as it waits, for example for a wallet. It is an estimate, so a lost one costs nothing.
    """
    if not frames or take.ended_at is None:
        return
    seconds = Decimal(str((take.ended_at - take.started_at).total_seconds())) / frames
    gpu_seconds = take.gpu_seconds / frames
    key = (take.model, take.kind, resolution)
    bind = session.get_bind()
    engine = bind.engine

    def record() -> None:
        with autocommit(engine) as own:
            record_throughput(own, key, seconds=seconds, gpu_seconds=gpu_seconds)

    after_commit(session, record)


def record_throughput(
    connection: Connection, key: tuple[str, str, str], *, seconds: Decimal, gpu_seconds: Decimal
) -> None:
    """Move the quantiles of a model, kind and resolution by one take: its seconds and GPU-seconds per frame."""
    model, kind, shape = key
    inputs = {"model": model, "kind": kind, "shape": shape, "seconds": seconds, "gpu_seconds": gpu_seconds}
    _RECORD.run_on(connection, {**inputs, "gain": GAIN})


def estimate_use(estimate: Decimal, frames: int, pace: Decimal | None) -> Decimal:
    """Return the charge of a claim for a unit: measured GPU-seconds of a segment, seconds of a finish.

    `pace` is what a frame has taken; without measurements it is the unit's planned estimate, the length of the film.
    """
    return estimate if pace is None else (pace * frames).quantize(_CHARGE)
