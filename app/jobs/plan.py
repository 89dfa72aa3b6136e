"""Plan the work of a Spec: shots become segments, and segments become units in the queue of record."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.catalog.models import VideoModel
from app.db import new_id
from app.jobs.queue_tables import Unit
from app.jobs.spec import Spec
from app.jobs.states import UnitState

# Queue priority by service tier. A tier that a price book adds later counts as standard.
CLASS_OF_TIER = {"priority": 0, "standard": 1, "flex": 2}

# The pool whose workers join and measure films. It needs no GPU.
FINISH_POOL = "finish"
# The pool that serves test keys, whatever model they name.
TEST_POOL = "synthetic"


@dataclass(frozen=True)
class Segment:
    """The output of one model call: the new frames of a part of a shot."""

    shot: int
    position: int
    frames: int


def plan_segments(spec: Spec, model: VideoModel) -> list[Segment]:
    """Split each shot into segments that the model can make; a shot whose clip is reused needs none."""
    return [
        Segment(shot=number, position=position, frames=frames)
        for number, shot in enumerate(spec.shots)
        if not shot.reuse_clips
        for position, frames in enumerate(model.segments(shot.frames, spec.fps))
    ]


def longest_render(spec: Spec, model: VideoModel) -> int:
    """Return the native frames of the longest render that a Spec needs, including the handover frames that it repeats.

    It is 0 when every shot is reused.
    """
    renders = [
        model.native_frames(segment.frames, spec.fps)
        + (model.handover_frames if segment.position or spec.mode == "extend" else 0)
        for segment in plan_segments(spec, model)
    ]
    return model.rendered_frames(max(renders)) if renders else 0


def enqueue(
    session: Session, *, job_id: str, account_id: str, spec: Spec, model: VideoModel, pool: str, at: datetime
) -> None:
    """Write the units of a new job: the first segment of each shot is ready, the later ones wait for it.

    Shots render in parallel; the segments of one shot run one after another because each continues the last.
    """
    priority = CLASS_OF_TIER.get(spec.service_tier, 1)
    units = [
        Unit(
            id=new_id("unit"),
            job_id=job_id,
            account_id=account_id,
            kind="segment",
            pool=pool,
            model=spec.model,
            state=UnitState.READY if segment.position == 0 else UnitState.BLOCKED,
            priority=priority,
            shot=segment.shot,
            position=segment.position,
            frames=segment.frames,
            estimate=Decimal(segment.frames) / spec.fps,
            # A microsecond apart, so that a storyboard starts with its first shot.
            queued_at=at + timedelta(microseconds=number),
        )
        for number, segment in enumerate(plan_segments(spec, model))
    ]
    session.add_all(units)
    if not units:
        # Every shot is reused (a film joined from existing clips): nothing to render, only to join.
        enqueue_finish(session, job_id=job_id, account_id=account_id, priority=priority, spec=spec, at=at)


def enqueue_finish(session: Session, *, job_id: str, account_id: str, priority: int, spec: Spec, at: datetime) -> None:
    """Make ready the unit that joins the clips, measures the film and settles the job; a job has at most one."""
    row = insert(Unit).values(
        {
            Unit.id: new_id("unit"),
            Unit.job_id: job_id,
            Unit.account_id: account_id,
            Unit.kind: "finish",
            Unit.pool: FINISH_POOL,
            Unit.model: FINISH_POOL,
            Unit.state: UnitState.READY,
            Unit.priority: min(priority, 1),
            Unit.shot: 0,
            Unit.position: 0,
            Unit.frames: spec.frames,
            Unit.estimate: Decimal(1),
            Unit.queued_at: at,
            Unit.takes_lost: 0,
            Unit.takes_error: 0,
        }
    )
    key = [Unit.job_id, Unit.kind, Unit.shot, Unit.position]
    session.execute(row.on_conflict_do_update(index_elements=key, set_={"state": UnitState.READY}))
