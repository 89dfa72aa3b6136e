"""The end of a job, in one transaction: final state, receipt, money, reservations, event. It happens exactly once."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.clock import lease_now, now
from app.db import after_commit
from app.jobs.fair_share import lock_shares
from app.jobs.meter import end_take
from app.jobs.publish_event import publish_job_event
from app.jobs.queue_tables import Take, Unit
from app.jobs.receipts import make_receipt, receipt_columns
from app.jobs.states import JobState, TakeState, UnitState, advance
from app.jobs.tables import Job, ReceiptRow
from app.metrics import DELIVERED_SECONDS, JOB_SECONDS, JOBS_ENDED, REVENUE
from app.prices.find import book_by_id
from app.prices.reservations import settle_reservation as settle_reservation
from app.wallet.hold import capture, release
from pricing.receipt import Receipt


@dataclass(frozen=True)
class StoredFilm:
    """A stored film, measured in storage before money moves."""

    key: str
    poster_key: str
    sprites_key: str
    sha256: str
    bytes: int
    frames: int
    fps: Fraction
    width: int
    height: int
    has_audio: bool
    reused_frames: int  # of `frames`, those that show only shots reused from another job
    facts: Mapping[str, Any]  # sprite geometry and other facts for pages

    def measured(self) -> dict[str, Any]:
        """Return the measurements as plain values for the job's row."""
        return {
            "sha256": self.sha256,
            "bytes": self.bytes,
            "frames": self.frames,
            "fps": str(self.fps),
            "width": self.width,
            "height": self.height,
            "has_audio": self.has_audio,
            "reused_frames": self.reused_frames,
            **self.facts,
        }


def complete(session: Session, job: Job, film: StoredFilm) -> Receipt:
    """End a job whose film is stored: completed, or cancelled when only a part was made before the cancel request.

    The caller holds the job's lock and has verified the lease of the finish. The delivered seconds are charged.
    """
    job.film_key, job.poster_key, job.sprites_key = film.key, film.poster_key, film.sprites_key
    job.film = film.measured()
    book = book_by_id(session, str(job.pricing["book"])).book
    membership = book.membership(str(job.pricing["customer"]["membership"]))
    job.files_expire_at = now(session) + timedelta(days=membership.retention_days)
    state = JobState.CANCELLED if job.cancel_requested_at else JobState.COMPLETED
    return _end(session, job, state)


def fail(session: Session, job: Job, *, code: str, message: str) -> Receipt:
    """End a job that failed. It costs nothing, and its clips are never served."""
    job.error_code, job.error_message = code, message[:2000]
    return _end(session, job, JobState.FAILED)


def cancel_unrendered(session: Session, job: Job) -> Receipt:
    """End a cancelled job without a finished segment: it costs nothing."""
    return _end(session, job, JobState.CANCELLED)


def expire(session: Session, job: Job) -> Receipt:
    """End a job that had not started by its deadline: it costs nothing."""
    return _end(session, job, JobState.EXPIRED)


def _end(session: Session, job: Job, state: JobState) -> Receipt:
    moment = now(session)
    drop_work(session, job)
    advance(job, state, at=moment)
    if state is JobState.COMPLETED:
        job.progress = 100
    receipt = make_receipt(book_by_id(session, str(job.pricing["book"])).book, job)
    row = ReceiptRow(
        job_id=job.id,
        body=receipt.to_json().decode(),
        gpu_milliseconds=gpu_milliseconds(session, job),
        **receipt_columns(job, receipt),
    )
    session.add(row)
    settle_reservation(
        session,
        job.quote_id or job.id,
        free_seconds=receipt.price.free_seconds_used,
        promotions=receipt.price.promotions,
    )
    session.flush()
    publish_job_event(session, job, f"video.{state}", receipt=row)
    charge = _move_money(session, job, receipt.total.minor)
    age_seconds = (moment - job.created_at).total_seconds()
    tier = str(job.spec["service_tier"])
    after_commit(
        session,
        lambda: _count(
            job, tier=tier, seconds=float(receipt.delivered.seconds), age_seconds=age_seconds, charge=charge
        ),
    )
    return receipt


def _count(job: Job, *, tier: str, seconds: float, age_seconds: float, charge: int) -> None:
    JOBS_ENDED.labels(job.state, job.model, job.test).inc()
    if job.test:
        return
    REVENUE.labels(job.currency).inc(charge)
    DELIVERED_SECONDS.labels(job.model).inc(seconds)
    if job.state == JobState.COMPLETED:
        JOB_SECONDS.labels(job.model, tier).observe(age_seconds)


def gpu_milliseconds(session: Session, job: Job) -> int:
    """Return the GPU time of all takes of a job in milliseconds, failed and lost ones included."""
    seconds = session.scalar(select(func.coalesce(func.sum(Take.gpu_seconds), 0)).where(Take.job_id == job.id))
    return int((seconds or 0) * 1000)


def _move_money(session: Session, job: Job, amount: int) -> int:
    """Capture the charge, or release the hold. Returns the charge in minor units."""
    # The wallet's row is the most contended lock, so it is locked last. A test job is never charged.
    # A cancel is the customer's decision; anything else that was not delivered is our fault, and credit that expired
    # meanwhile is granted again.
    our_fault = job.state != JobState.CANCELLED
    charge = 0 if job.test else amount
    if charge:
        capture(session, job.id, charge, ours=our_fault)
    else:
        release(session, job.id, ours=our_fault)
    return charge


def drop_work(session: Session, job: Job) -> None:
    """Drop every unit that has not ended and void every running lease: no worker serves a job that has ended.

    The caller holds the job's lock, which covers its takes and units.
    """
    moment = lease_now(session)
    running = select(Take).where(Take.job_id == job.id, Take.state == TakeState.RUNNING)
    for take in session.scalars(running.with_for_update().execution_options(populate_existing=True)):
        # The GPU worked until now, though nobody pays for it: margins count it.
        end_take(session, take, TakeState.RELEASED, ended_at=moment)
    session.flush()
    # Claims leave out an account whose share is locked, so none of them waits for the lanes of these units.
    ready = select(Unit.pool).where(Unit.job_id == job.id, Unit.state == UnitState.READY).distinct()
    if pools := session.scalars(ready).all():
        lock_shares(session, job.account_id, pools)
    session.execute(
        update(Unit)
        .where(Unit.job_id == job.id, Unit.state.in_((UnitState.BLOCKED, UnitState.READY, UnitState.RUNNING)))
        .values(state=UnitState.DROPPED)
    )
