"""The states of a job and the one table of its transitions; every change goes through `advance()`."""

from datetime import datetime
from enum import StrEnum
from typing import Protocol

from app.errors import AppError


class JobState(StrEnum):
    """The state of a job. A cancel request is a timestamp and a phase is the stage; neither is a state."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Stage(StrEnum):
    """The phase of an unfinished job."""

    MODERATING = "moderating"
    WAITING = "waiting"
    RENDERING = "rendering"
    FINISHING = "finishing"


class TakeState(StrEnum):
    """The state of one leased try at a unit; a retry is a new row."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    LOST = "lost"
    RELEASED = "released"


class UnitState(StrEnum):
    """The state of a unit of work (a segment, or the finish) in the queue of record."""

    BLOCKED = "blocked"
    READY = "ready"
    RUNNING = "running"
    DONE = "done"
    DROPPED = "dropped"


class QuoteState(StrEnum):
    """The state of a quote; all but the first are final."""

    OPEN = "open"
    REDEEMED = "redeemed"
    EXPIRED = "expired"


class WorkerState(StrEnum):
    """The state of a worker process; `gone` means exited or silent."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    DRAINING = "draining"
    GONE = "gone"


FINAL = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED})
UNFINISHED = frozenset(JobState) - FINAL

# README.md draws this table; tests/app/jobs/test_states.py compares the two.
TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.IN_PROGRESS, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED}),
    JobState.IN_PROGRESS: frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED}),
    JobState.COMPLETED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
    JobState.EXPIRED: frozenset(),
}


class HasState(Protocol):
    """The attributes of a job row that `advance()` uses."""

    state: str
    started_at: datetime | None
    finished_at: datetime | None


def is_final(state: str) -> bool:
    """Return whether a job in this state has ended."""
    return JobState(state) in FINAL


def advance(job: HasState, to: JobState, *, at: datetime) -> None:
    """Move a job to another state and record the time; the caller holds the row's lock.

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
