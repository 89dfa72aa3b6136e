"""The states of a job and the one table of its transitions; every change goes through `advance()`."""

from datetime import datetime
from enum import StrEnum
from typing import Protocol

from app.errors import AppError


class JobState(StrEnum):
    """Where an order stands. A wish to cancel is a timestamp and a phase is the stage; neither is a state."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Stage(StrEnum):
    """What is happening to an unfinished job."""

    WAITING = "waiting"
    RENDERING = "rendering"
    FINISHING = "finishing"


class TakeState(StrEnum):
    """How one leased attempt stands; a retry is a new row."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    LOST = "lost"
    RELEASED = "released"


class UnitState(StrEnum):
    """Where a unit of work (a segment, or the finish) stands in the queue of record."""

    BLOCKED = "blocked"
    READY = "ready"
    RUNNING = "running"
    DONE = "done"
    DROPPED = "dropped"


FINAL = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED})

# README.md draws this table; tests/app/jobs/test_states.py holds the drawing against it.
TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.IN_PROGRESS, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED}),
    JobState.IN_PROGRESS: frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED}),
    JobState.COMPLETED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
    JobState.EXPIRED: frozenset(),
}


class HasState(Protocol):
    """What `advance()` needs of a job row."""

    state: str
    started_at: datetime | None
    finished_at: datetime | None


def is_final(state: str) -> bool:
    """Return whether a job in this state has ended."""
    return JobState(state) in FINAL


def advance(job: HasState, to: JobState, *, at: datetime) -> None:
    """Move a job to another state and stamp the moment; the caller holds the row's lock.

    Raises AppError `already_final` for a job that has ended, and `conflict` for a move the table does not allow.
    """
    state = JobState(job.state)
    if state in FINAL:
        raise AppError("already_final", f"The job has already ended as {state}.", state=str(state))
    if to not in TRANSITIONS[state]:
        raise AppError("conflict", f"A job cannot go from {state} to {to}.", state=str(state))
    job.state = str(to)
    if to is JobState.IN_PROGRESS:
        job.started_at = at
    if to in FINAL:
        job.finished_at = at
