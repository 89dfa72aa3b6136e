"""Which files of jobs in storage no row references."""

from collections.abc import Iterable
from datetime import timedelta

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from app.clock import now
from app.jobs.queue_tables import Take, Unit
from app.jobs.sound_files import sound_key, wave_key
from app.jobs.states import FINAL, TakeState
from app.jobs.tables import Job
from app.storage import Stat

# Files of a job that has no row: a restored backup may be older than the files, so they are kept for a day.
UNKNOWN_JOB_AGE = timedelta(days=1)


def unreferenced_keys(session: Session, stats: Iterable[Stat]) -> list[str]:
    """Return the keys among these that no row references.

    Each query sees what was committed before it, so the order matters: running takes before the keys that they leave.
    """
    by_job: dict[str, list[Stat]] = {}
    for stat in stats:
        by_job.setdefault(stat.key.split("/")[1], []).append(stat)
    running = session.execute(
        select(Take.job_id, Take.id).where(Take.job_id.in_(by_job), Take.state == TakeState.RUNNING)
    ).all()
    prefixes = {f"{folder}/{job_id}/{take_id}/" for job_id, take_id in running for folder in ("takes", "films")}
    jobs = {job.id: job for job in session.scalars(select(Job).where(Job.id.in_(by_job)))}
    referenced = _referenced_keys(session, jobs)
    old = now(session) - UNKNOWN_JOB_AGE
    orphans = []
    for job_id, job_stats in by_job.items():
        for stat in job_stats:
            if job_id not in jobs:
                orphan = stat.modified_at < old
            else:
                being_written = "/".join(stat.key.split("/")[:3]) + "/" in prefixes
                orphan = not being_written and stat.key not in referenced
            if orphan:
                orphans.append(stat.key)
    return orphans


def _referenced_keys(session: Session, jobs: dict[str, Job]) -> set[str]:
    """Return every storage key that these jobs still need."""
    keys: set[str | None] = set()
    for job in jobs.values():
        if job.files_removed_at is None:
            keys |= {job.film_key, job.poster_key, job.sprites_key, *_beside_film(job.film_key)}
    units = session.execute(
        select(Unit.job_id, Unit.clip_key, Unit.handover_key, Unit.checkpoint_key).where(
            Unit.job_id.in_(jobs),
            or_(Unit.clip_key.is_not(None), Unit.handover_key.is_not(None), Unit.checkpoint_key.is_not(None)),
        )
    )
    for job_id, clip, handover, checkpoint in units:
        job = jobs[job_id]
        if job.state not in FINAL:
            keys |= {clip, handover, checkpoint, *_beside_clip(clip)}
        elif job.film_key is not None and job.files_removed_at is None:
            keys |= {clip, *_beside_clip(clip)}
    return {key for key in keys if key is not None}


def _beside_clip(clip_key: str | None) -> tuple[str, ...]:
    return (sound_key(clip_key),) if clip_key else ()


def _beside_film(film_key: str | None) -> tuple[str, ...]:
    return (sound_key(film_key), wave_key(film_key)) if film_key else ()
