"""How far each shot of an unfinished job is, and the clips of the shots that are rendered."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.errors import not_found
from app.jobs.queue_tables import Take, Unit
from app.jobs.spec import Spec
from app.jobs.states import TakeState, UnitState
from app.jobs.tables import Job


@dataclass(frozen=True)
class ShotProgress:
    """One shot of a job that is being made: `state` is waiting, rendering or done; `clips` are its number of clips."""

    number: int
    prompt: str
    percent: int
    state: str
    clips: int


def shot_progress(session: Session, job: Job) -> list[ShotProgress]:
    """Return the progress of each shot of a job, by the frames of its segments; a reused shot is done."""
    spec = Spec.model_validate(job.spec)
    running = (
        select(Take.unit_id, Take.step, Take.steps)
        .where(Take.job_id == job.id, Take.state == TakeState.RUNNING)
        .subquery()
    )
    rows = session.execute(
        select(Unit.shot, Unit.state, Unit.frames, running.c.step, running.c.steps)
        .outerjoin(running, running.c.unit_id == Unit.id)
        .where(Unit.job_id == job.id, Unit.kind == "segment")
        .order_by(Unit.shot, Unit.position)
    ).all()
    return [
        _progress(number, shot.prompt, [tuple(row)[1:] for row in rows if row.shot == number - 1])
        for number, shot in enumerate(spec.shots, 1)
    ]


def shot_clip(session: Session, job: Job, shot: int, position: int) -> str:
    """Return the storage key of one rendered segment of a shot. Raises AppError `not_found`."""
    key = session.scalar(
        select(Unit.clip_key).where(
            Unit.job_id == job.id, Unit.kind == "segment", Unit.shot == shot, Unit.position == position
        )
    )
    if key is None:
        raise not_found("clip", f"{job.id}, shot {shot}, segment {position}")
    return key


def _progress(number: int, prompt: str, segments: Sequence[tuple[str, int, int | None, int | None]]) -> ShotProgress:
    frames = sum(each[1] for each in segments)
    done = sum(each[1] for each in segments if each[0] == UnitState.DONE)
    if done == frames:
        return ShotProgress(number, prompt, 100, "done", len(segments))
    partial = sum(count * (step or 0) / steps for _, count, step, steps in segments if steps)
    is_begun = done > 0 or any(state == UnitState.RUNNING for state, *_ in segments)
    # A shot has 100 % when its clip is stored, not when its last step is computed.
    percent = min(99, int(100 * (done + partial) / frames))
    return ShotProgress(number, prompt, percent, "rendering" if is_begun else "waiting", 0)
