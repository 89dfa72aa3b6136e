"""How far each shot of an unfinished job is, and the clips of the shots that are rendered."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.errors import not_found
from app.jobs.queue_tables import Take, Unit
from app.jobs.spec import Spec
from app.jobs.states import JobState, Stage, TakeState, UnitState, is_final
from app.jobs.tables import Job
from app.moderation.picture_checkers import shows_unchecked
from app.provenance.backfill_tables import FilmSuccessor


@dataclass(frozen=True)
class ShotProgress:
    """One shot of a job that is being made: `state` is waiting, rendering or done; `clips` are how many play."""

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
    tiles = [
        _progress(number, shot.prompt, [tuple(row)[1:] for row in rows if row.shot == number - 1])
        for number, shot in enumerate(spec.shots, 1)
    ]
    return tiles if shots_play(job) else [replace(tile, clips=0) for tile in tiles]


def shot_clip(session: Session, job: Job, shot: int, position: int) -> str:
    """Return the storage key of one segment of a finished shot.

    Raises AppError `not_found` for a shot that is not finished, and for all shots of a job that ended without its whole
    film, whose files were removed, or whose film got its marks later: these clips have none.
    """
    segments = session.execute(
        select(Unit.position, Unit.state, Unit.clip_key).where(
            Unit.job_id == job.id, Unit.kind == "segment", Unit.shot == shot
        )
    ).all()
    keys = {each.position: each.clip_key for each in segments}
    key: str | None = keys.get(position) if all(each.state == UnitState.DONE for each in segments) else None
    if key is None or not shots_play(job) or session.get(FilmSuccessor, job.id) is not None:
        raise not_found("clip", f"{job.id}, shot {shot}, segment {position}")
    return key


def shots_play(job: Job) -> bool:
    """Return whether finished shots of a job play: while it is made, and when all of it was made and is still there.

    Where films are checked, they play once the film has passed, unless the policy shows them before; none does while a
    moderator decides.
    """
    if job.files_removed_at is not None or (is_final(job.state) and job.state != JobState.COMPLETED):
        return False
    return job.state == JobState.COMPLETED or (job.stage != Stage.MODERATING and shows_unchecked())


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
