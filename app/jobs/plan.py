"""Plan the work of a Spec: shots become segments, and segments become units in the queue of record."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy.orm import Session

from app.catalog.memory_estimate import needed_mb
from app.catalog.models import VideoModel
from app.db import new_id
from app.jobs.spec import Spec
from app.jobs.states import UnitState
from app.sql_statements import SqlStatement

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
    return max((_rendered(segment, spec, model) for segment in plan_segments(spec, model)), default=0)


def _rendered(segment: Segment, spec: Spec, model: VideoModel) -> int:
    """Return the native frames that the model makes for a segment, with those that it is shown again."""
    repeated = model.handover_frames if segment.position or spec.mode == "extend" else 0
    return model.rendered_frames(model.native_frames(segment.frames, spec.fps) + repeated)


def plan_units(spec: Spec, model: VideoModel, pool: str) -> list[dict[str, Any]]:
    """Return the columns of a new job's units: the first segment of each shot is ready, the later ones wait for it.

    Shots render in parallel; the segments of one shot run one after another because each continues the last. Where
    every shot is reused (a film joined from existing clips), there is nothing to render, only to join. Each segment has
    what it needs of a GPU, so that a claim takes only what fits; for test orders no model is loaded.
    """
    priority = CLASS_OF_TIER.get(spec.service_tier, 1)
    is_free = pool == TEST_POOL or model.architecture is None
    sides = (0, 0) if is_free else model.native[spec.resolution][spec.ratio]
    units = [
        {
            "id": new_id("unit"),
            "kind": "segment",
            "pool": pool,
            "model": spec.model,
            "state": str(UnitState.READY if segment.position == 0 else UnitState.BLOCKED),
            "class": priority,
            "shot": segment.shot,
            "position": segment.position,
            "frames": segment.frames,
            "estimate": str(Decimal(segment.frames) / spec.fps),
            "memory_mb": 0 if is_free else needed_mb(model, *sides, _rendered(segment, spec, model)),
            "features": [] if is_free else sorted(model.requires),
        }
        for segment in plan_segments(spec, model)
    ]
    return units or [_finish(spec, priority)]


def _finish(spec: Spec, priority: int) -> dict[str, Any]:
    """Return the columns of a job's finish."""
    return {
        "id": new_id("unit"),
        "kind": "finish",
        "pool": FINISH_POOL,
        "model": FINISH_POOL,
        "state": str(UnitState.READY),
        "class": min(priority, 1),
        "shot": 0,
        "position": 0,
        "frames": spec.frames,
        "estimate": "1",
        "memory_mb": 0,
        "features": [],
    }


_ENQUEUE_FINISH = SqlStatement("""
    INSERT INTO units (id, job_id, account_id, kind, pool, model, state, class, shot, position, frames, estimate,
                       memory_mb, features, queued_at, takes_lost, takes_error)
    VALUES (:id, :job_id, :account_id, :kind, :pool, :model, :state, :class, :shot, :position, :frames, :estimate,
            :memory_mb, CAST(:features AS text[]), :queued_at, 0, 0)
    ON CONFLICT (job_id, kind, shot, position) DO UPDATE SET state = excluded.state
""")


def enqueue_finish(session: Session, *, job_id: str, account_id: str, priority: int, spec: Spec, at: datetime) -> None:
    """Make ready the unit that joins the clips, measures the film and settles the job; a job has at most one."""
    row = _finish(spec, priority) | {"job_id": job_id, "account_id": account_id, "queued_at": at}
    _ENQUEUE_FINISH.run(session, row)
