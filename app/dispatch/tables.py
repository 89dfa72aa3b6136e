"""Tables of the dispatcher: measured throughput, ETA forecasts, leaders, repair counts and figures of the service."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, Integer, Numeric, SmallInteger, Text, Uuid, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Moment


class Throughput(Base):
    """Measured seconds of a take by model and shape: two moving quantiles, for estimates and ETAs."""

    __tablename__ = "paces"

    model: Mapped[str] = mapped_column(Text, primary_key=True)
    kind: Mapped[str] = mapped_column(Text, primary_key=True)
    shape: Mapped[str] = mapped_column(Text, primary_key=True)  # resolution, or "-" for a finish
    samples: Mapped[int] = mapped_column(BigInteger, default=0)
    p50: Mapped[Decimal] = mapped_column(Numeric(14, 6))  # seconds per frame
    p90: Mapped[Decimal] = mapped_column(Numeric(14, 6))
    gpu_p50: Mapped[Decimal] = mapped_column(Numeric(14, 6))  # GPU-seconds per frame


class QueueSnapshot(Base):
    """What an account has waiting in a pool and class, as of about a second ago; see app.dispatch.queue_snapshot."""

    __tablename__ = "queue_snapshots"
    __table_args__ = ({"postgresql_with": {"fillfactor": 50}},)

    pool: Mapped[str] = mapped_column(Text, primary_key=True)
    priority: Mapped[int] = mapped_column("class", SmallInteger, primary_key=True, autoincrement=False)
    account_id: Mapped[str] = mapped_column(Text, primary_key=True)
    units: Mapped[int] = mapped_column(Integer)
    jobs: Mapped[int] = mapped_column(Integer)
    p50: Mapped[Decimal] = mapped_column(Numeric(16, 3))  # seconds of one worker for all units, as is p90
    p90: Mapped[Decimal] = mapped_column(Numeric(16, 3))
    oldest: Mapped[datetime] = mapped_column(Moment)
    # Some units from the oldest to the newest: [microseconds since 1970, units, jobs, p50, p90 before it].
    marks: Mapped[list[Any]] = mapped_column(JSONB)
    version: Mapped[int] = mapped_column(BigInteger, server_default="0")  # of the lanes from which it was read
    refreshed_at: Mapped[datetime] = mapped_column(Moment, server_default=text("'epoch'"))


class QueueVersion(Base):
    """Which snapshot of a pool's queues this is: another value whenever one of them was written or removed."""

    __tablename__ = "queue_versions"

    pool: Mapped[str] = mapped_column(Text, primary_key=True)
    version: Mapped[UUID] = mapped_column(Uuid)


class Forecast(Base):
    """The ETA of a job when it was accepted, to be compared with the actual times."""

    __tablename__ = "forecasts"
    __table_args__ = (Index("ix_forecasts_open", "job_id", postgresql_where=text("ended_at IS NULL")),)

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    pool: Mapped[str] = mapped_column(Text)
    made_at: Mapped[datetime] = mapped_column(Moment, index=True)
    start_p50: Mapped[int] = mapped_column(Integer)  # seconds from made_at, as are the others
    end_p50: Mapped[int] = mapped_column(Integer)
    end_p90: Mapped[int] = mapped_column(Integer)
    # Actual times of the job, and whether it completed. The forecast of a cancelled job proves nothing.
    started_at: Mapped[datetime | None] = mapped_column(Moment)
    ended_at: Mapped[datetime | None] = mapped_column(Moment)
    completed: Mapped[bool | None] = mapped_column(Boolean)


class PoolPlanRow(Base):
    """What pools.toml says of a pool, for `workers_wanted`; app.dispatch.pool_plans writes it."""

    __tablename__ = "pool_plans"

    pool: Mapped[str] = mapped_column(Text, primary_key=True)
    start_seconds: Mapped[int] = mapped_column(Integer)
    priority_start_seconds: Mapped[int] = mapped_column(Integer)


class GpuClassRow(Base):
    """A class of GPU of pools.toml, for `workers_wanted`; a unit wants the one of the least place that it fits."""

    __tablename__ = "gpu_classes"

    pool: Mapped[str] = mapped_column(Text, primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    place: Mapped[int] = mapped_column(Integer)
    memory_mb: Mapped[int] = mapped_column(Integer)
    features: Mapped[list[str]] = mapped_column(ARRAY(Text))


class Leader(Base):
    """The lease by which one scheduler leads and others stand by; the term fences a leader that resumed too late."""

    __tablename__ = "leaders"

    role: Mapped[str] = mapped_column(Text, primary_key=True)
    holder: Mapped[str] = mapped_column(Text)
    term: Mapped[int] = mapped_column(BigInteger, default=1)
    lease_until: Mapped[datetime] = mapped_column(Moment)


class SweepCount(Base):
    """The total of each repair of the scheduler."""

    __tablename__ = "sweep_counts"

    repair: Mapped[str] = mapped_column(Text, primary_key=True)
    count: Mapped[int] = mapped_column(BigInteger, default=0)
    last_at: Mapped[datetime | None] = mapped_column(Moment)


class ServiceFigures(Base):
    """Sums over the whole service in a quarter of an hour, for operators; see app.dispatch.service_figures.

    Rows are derived from receipts, transfers and takes, and may be removed: they are summed again.
    """

    __tablename__ = "service_figures"

    starts_at: Mapped[datetime] = mapped_column(Moment, primary_key=True)
    error_code: Mapped[str] = mapped_column(Text, primary_key=True)  # of failed films; empty for everything else
    charged: Mapped[int] = mapped_column(BigInteger)  # minor units, as is refunded
    refunded: Mapped[int] = mapped_column(BigInteger)
    films: Mapped[int] = mapped_column(BigInteger)  # settled ones, with those that failed
    failed: Mapped[int] = mapped_column(BigInteger)
    seconds: Mapped[Decimal] = mapped_column(Numeric)  # delivered
    gpu_seconds: Mapped[Decimal] = mapped_column(Numeric)
    gpu_cost: Mapped[Decimal | None] = mapped_column(Numeric)  # of them; NULL where the cost of some is unknown
