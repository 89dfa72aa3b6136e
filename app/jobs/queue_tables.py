"""Tables of the queue of record: units of work, takes, fair shares, pools and workers."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Numeric,
    SmallInteger,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Moment, install_trigger, one_of
from app.jobs.states import TakeState, UnitState, WorkerState


class Unit(Base):
    """One piece of work in the queue of record: a segment to render, or the finish of a job."""

    __tablename__ = "units"
    __table_args__ = (
        one_of("kind", ("segment", "finish")),
        one_of("state", UnitState),
        UniqueConstraint("job_id", "kind", "shot", "position"),
        # An account's queue by pool, priority and age; and, for claim.sql, the same for one lane.
        Index(
            "ix_units_ready", "pool", "class", "account_id", "queued_at", "id", postgresql_where=text("state = 'ready'")
        ),
        Index(
            "ix_units_ready_lane",
            *("pool", "class", "account_id", "model", "memory_mb", "features", "queued_at", "id"),
            postgresql_where=text("state = 'ready'"),
        ),
        Index("ix_units_running", "id", postgresql_where=text("state = 'running'")),
        # For the operators' count of what waits for another unit of its job.
        Index("ix_units_blocked", "pool", postgresql_where=text("state = 'blocked'")),
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    kind: Mapped[str] = mapped_column(Text, default="segment")
    pool: Mapped[str] = mapped_column(Text)
    model: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text, default=UnitState.READY)
    priority: Mapped[int] = mapped_column("class", SmallInteger, default=1)  # 0 priority, 1 standard, 2 flex
    shot: Mapped[int] = mapped_column(Integer, default=0)
    position: Mapped[int] = mapped_column(Integer, default=0)  # of the segment within its shot
    frames: Mapped[int] = mapped_column(Integer, default=0)
    estimate: Mapped[Decimal] = mapped_column(Numeric(12, 3), default=Decimal(1))  # GPU-seconds
    # What a GPU must have: memory in MiB, and features (app.catalog.gpu_features).
    memory_mb: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    features: Mapped[list[str]] = mapped_column(ARRAY(Text), default=list, server_default="{}")
    queued_at: Mapped[datetime] = mapped_column(Moment)
    not_before: Mapped[datetime | None] = mapped_column(Moment)
    takes_lost: Mapped[int] = mapped_column(SmallInteger, default=0)
    takes_error: Mapped[int] = mapped_column(SmallInteger, default=0)
    clip_key: Mapped[str | None] = mapped_column(Text)
    handover_key: Mapped[str | None] = mapped_column(Text)
    checkpoint_key: Mapped[str | None] = mapped_column(Text)
    done_at: Mapped[datetime | None] = mapped_column(Moment)


class Lane(Base):
    """The number of ready units of an account that are alike: of one model, with the same needs, by pool and priority.

    Triggers on `units` maintain it.

    claim.sql reads from it which accounts wait: one row per lane, however long the queues are.
    """

    __tablename__ = "lanes"
    __table_args__ = (CheckConstraint("ready >= 0", name="ready_not_negative"), {"postgresql_with": {"fillfactor": 50}})

    pool: Mapped[str] = mapped_column(Text, primary_key=True)
    priority: Mapped[int] = mapped_column("class", SmallInteger, primary_key=True, autoincrement=False)
    account_id: Mapped[str] = mapped_column(Text, primary_key=True)
    model: Mapped[str] = mapped_column(Text, primary_key=True)
    memory_mb: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False, server_default="0")
    features: Mapped[list[str]] = mapped_column(ARRAY(Text), primary_key=True, server_default="{}")
    ready: Mapped[int] = mapped_column(Integer)


install_trigger(
    Base.metadata.tables["units"],
    # Counted by triggers, so that neither forgotten code nor a manual change can hide a unit from claims.
    """
    CREATE OR REPLACE FUNCTION count_lanes() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP <> 'INSERT' AND OLD.state = 'ready' THEN
            UPDATE lanes SET ready = ready - 1 WHERE pool = OLD.pool AND class = OLD.class
                AND account_id = OLD.account_id AND model = OLD.model
                AND memory_mb = OLD.memory_mb AND features = OLD.features;
            DELETE FROM lanes WHERE pool = OLD.pool AND class = OLD.class
                AND account_id = OLD.account_id AND model = OLD.model
                AND memory_mb = OLD.memory_mb AND features = OLD.features AND ready = 0;
        END IF;
        IF TG_OP <> 'DELETE' AND NEW.state = 'ready' THEN
            INSERT INTO lanes (pool, class, account_id, model, memory_mb, features, ready)
            VALUES (NEW.pool, NEW.class, NEW.account_id, NEW.model, NEW.memory_mb, NEW.features, 1)
            ON CONFLICT (pool, class, account_id, model, memory_mb, features) DO UPDATE SET ready = lanes.ready + 1;
        END IF;
        RETURN NULL;
    END $$
    """,
    """
    CREATE OR REPLACE TRIGGER units_count_lanes
    AFTER INSERT OR DELETE OR UPDATE OF state, class, pool, account_id, model, memory_mb, features ON units
    FOR EACH ROW EXECUTE FUNCTION count_lanes()
    """,
)


class Take(Base):
    """One leased try at a unit. Every write of its worker is conditional on the lease and fenced."""

    __tablename__ = "takes"
    __table_args__ = (
        one_of("state", TakeState),
        CheckConstraint("(state = 'running') = (ended_at IS NULL)", name="running_has_no_end"),
        Index("uq_takes_running", "unit_id", unique=True, postgresql_where=text("state = 'running'")),
        # No index on what a heartbeat changes (lease_until, step): its updates then stay within their page (HOT).
        # Expired leases are found among the running takes, which are few.
        Index("ix_takes_unit", "unit_id"),
        Index(
            "ix_takes_running_segments",
            *("account_id", "pool"),
            postgresql_where=text("state = 'running' AND kind = 'segment'"),
        ),
        Index("ix_takes_job", "job_id"),
        # For the GPU time of a day.
        Index("ix_takes_ended", "ended_at", postgresql_where=text("ended_at IS NOT NULL")),
        Index("ix_takes_unsettled", "ended_at", postgresql_where=text("state <> 'running' AND NOT share_settled")),
        {"postgresql_with": {"fillfactor": 80}},
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    unit_id: Mapped[str] = mapped_column(ForeignKey("units.id"))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    account_id: Mapped[str] = mapped_column(Text)
    pool: Mapped[str] = mapped_column(Text)
    model: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(Text)
    worker_id: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text, default=TakeState.RUNNING)
    fence: Mapped[int] = mapped_column(BigInteger, Identity(), unique=True)  # grows with every take
    lease_until: Mapped[datetime] = mapped_column(Moment)
    charged: Mapped[Decimal] = mapped_column(
        Numeric(12, 3), default=Decimal(0)
    )  # virtual GPU-seconds charged at the claim
    share_settled: Mapped[bool] = mapped_column(default=False)  # whether virtual time was corrected to the actual use
    step: Mapped[int] = mapped_column(Integer, default=0)
    steps: Mapped[int] = mapped_column(Integer, default=0)
    started_at: Mapped[datetime] = mapped_column(Moment)
    renewed_at: Mapped[datetime | None] = mapped_column(Moment)  # the last good heartbeat; NULL before the first
    ended_at: Mapped[datetime | None] = mapped_column(Moment)
    meter: Mapped[dict[str, Any] | None] = mapped_column(JSONB)  # seconds by stage, peak memory
    gpu_seconds: Mapped[Decimal] = mapped_column(Numeric(12, 3), default=Decimal(0))
    gpu: Mapped[str | None] = mapped_column(Text)  # the worker's class of GPU (app.catalog.pools), where it has one
    # What those GPU-seconds cost when the take ended, in the book's currency; NULL before that, and for old takes.
    gpu_cost: Mapped[Decimal | None] = mapped_column(Numeric(20, 9))
    clip_key: Mapped[str | None] = mapped_column(Text)
    error_code: Mapped[str | None] = mapped_column(Text)
    error_message: Mapped[str | None] = mapped_column(Text)


class Share(Base):
    """The service of an account in one pool: virtual time is GPU-seconds divided by the membership's weight."""

    __tablename__ = "shares"

    pool: Mapped[str] = mapped_column(Text, primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    # Charges are of milliseconds, and the weight divides them: rounded to those, a heavy account would not advance.
    vtime: Mapped[Decimal] = mapped_column(Numeric(20, 6), default=Decimal(0))
    weight: Mapped[Decimal] = mapped_column(Numeric(8, 3), default=Decimal(1))
    concurrency: Mapped[int] = mapped_column(Integer, default=1)  # segments that may run at once, over all pools
    # GPU-seconds that overtook the account's own oldest unit, for a resident model; 0 once that unit is claimed.
    jumped: Mapped[Decimal] = mapped_column(Numeric(12, 3), default=Decimal(0), server_default="0")


class Pool(Base):
    """A set of models served by the same kind of worker, and the virtual time that its service has reached."""

    __tablename__ = "pools"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    vclock: Mapped[Decimal] = mapped_column(Numeric(20, 6), default=Decimal(0))


class Worker(Base):
    """One worker process and its GPU, as of its last heartbeat."""

    __tablename__ = "workers"
    __table_args__ = (
        one_of("state", WorkerState),
        # The past is not read: rows of processes that have ended are left out, and removed after a day.
        Index("ix_workers_live", "id", postgresql_where=text("state <> 'gone'")),
        # No index on what a heartbeat changes (seen_at): its updates then stay within their page (HOT).
        Index("ix_workers_gone", "started_at", postgresql_where=text("state = 'gone'")),
        {"postgresql_with": {"fillfactor": 50}},
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    pools: Mapped[list[str]] = mapped_column(JSONB)
    host: Mapped[str] = mapped_column(Text)
    pid: Mapped[int] = mapped_column(Integer)
    device: Mapped[str] = mapped_column(Text)
    resident_model: Mapped[str | None] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text, default=WorkerState.STARTING)
    take_id: Mapped[str | None] = mapped_column(Text)
    drain_requested: Mapped[bool] = mapped_column(Boolean, default=False)
    leave_at: Mapped[datetime | None] = mapped_column(Moment)  # it exits by then and releases its take
    started_at: Mapped[datetime] = mapped_column(Moment)
    seen_at: Mapped[datetime] = mapped_column(Moment)
    facts: Mapped[dict[str, Any]] = mapped_column(JSONB, default=dict)  # the device's name and memory_bytes, versions
    # What units may need of its GPU; NULL where it has not said, so that everything fits.
    memory_mb: Mapped[int | None] = mapped_column(Integer)
    features: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
