"""The order of one segment, read once from the database."""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.catalog.models import VideoModel, load_catalog
from app.jobs.queue_tables import Unit
from app.jobs.spec import Shot, Spec
from app.jobs.tables import Job
from app.settings import get_settings


@dataclass(frozen=True)
class SegmentInput:
    """One segment of a job: the ordered spec and shot, and the segment's position in the job."""

    spec: Spec
    shot: Shot
    unit: Unit
    previous: Unit | None  # the segment before this one in the same shot
    has_next: bool
    frames_before: int  # of the shot, in the segments before this one
    share_done: float  # part of the job's frames that is already done
    share: float  # part of the job's frames that this segment has
    mark_id: int | None  # what the watermark carries; None for an order from before there were watermarks

    @property
    def model(self) -> VideoModel:
        """The catalogue entry that the order was resolved for."""
        return load_catalog(get_settings().catalog_dir)[self.spec.model]


def read_segment_input(session: Session, unit_id: str) -> SegmentInput:
    """Return the order of this unit. Nothing is locked: a Spec never changes, and a done unit stays done."""
    unit = session.get_one(Unit, unit_id)
    job = session.get_one(Job, unit.job_id)
    spec = Spec.model_validate(job.spec)
    units = session.scalars(select(Unit).where(Unit.job_id == unit.job_id, Unit.kind == "segment")).all()
    siblings = {other.position: other for other in units if other.shot == unit.shot}
    total = sum(other.frames for other in units) or 1
    done = sum(other.frames for other in units if other.state == "done")
    return SegmentInput(
        spec=spec,
        shot=spec.shots[unit.shot],
        unit=unit,
        previous=siblings.get(unit.position - 1),
        has_next=unit.position + 1 in siblings,
        frames_before=sum(other.frames for other in siblings.values() if other.position < unit.position),
        share_done=done / total,
        share=unit.frames / total,
        mark_id=job.mark_id,
    )
