"""The end of a job, in one transaction: final state, receipt, money, reservations, event. It happens exactly once."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.clock import lease_now, now
from app.db import after_commit
from app.jobs.fair_share import lock_shares
from app.jobs.file_retention import expire_inputs, film_retention
from app.jobs.groups import end_in_group
from app.jobs.meter import end_take
from app.jobs.publish_event import new_job_event
from app.jobs.queue_tables import Take, Unit
from app.jobs.receipts import make_receipt, receipt_columns
from app.jobs.states import JobState, Stage, TakeState, UnitState, advance
from app.jobs.tables import Job, ReceiptRow
from app.metrics import DELIVERED_SECONDS, JOB_SECONDS, JOBS_ENDED, REVENUE
from app.moderation.record import withdraw_review
from app.prices.find import recorded_book
from app.prices.reservations import settle_reservation
from app.progress import publish_after_commit
from app.provenance.frame_hashes import hash_parts
from app.sql_statements import mark_written, sql_file
from app.wallet.hold import capture, release
from pricing.receipt import Receipt

_READ = sql_file("app.jobs", "settle_read.sql")
_WRITE = sql_file("app.jobs", "settle_write.sql")


@dataclass(frozen=True)
class RegistryEntry:
    """What the registry keeps of a film beside its row's own values.

    `frame_hashes` are PDQ hashes of some frames, one after the other; `reused_films` the films of whose shots it is
    made too.
    """

    model_version: str = ""
    frame_hashes: bytes = b""
    reused_films: Sequence[str] = ()

    def inputs(self) -> dict[str, Any]:
        """Return the entry as inputs of settle_write.sql."""
        return {
            "model_version": self.model_version,
            "frame_hashes": self.frame_hashes,
            "hash_parts": hash_parts(self.frame_hashes),
            "reused_films": list(self.reused_films),
        }


_NO_ENTRY = RegistryEntry()


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
    entry: RegistryEntry = _NO_ENTRY

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
    state = JobState.CANCELLED if job.cancel_requested_at else JobState.COMPLETED
    return _end(session, job, state, film=film)


def fail(session: Session, job: Job, *, code: str, message: str) -> Receipt:
    """End a job that failed. It costs nothing, and from then on none of its clips is served (decision 0148)."""
    return _end(session, job, JobState.FAILED, error=(code, message[:2000]))


def cancel_unrendered(session: Session, job: Job) -> Receipt:
    """End a cancelled job without a finished segment: it costs nothing."""
    return _end(session, job, JobState.CANCELLED)


def expire(session: Session, job: Job) -> Receipt:
    """End a job that had not started by its deadline: it costs nothing."""
    return _end(session, job, JobState.EXPIRED)


def _end(
    session: Session,
    job: Job,
    state: JobState,
    *,
    film: StoredFilm | None = None,
    error: tuple[str, str] | None = None,
) -> Receipt:
    moment = now(session)
    session.flush()
    facts = _read_facts(session, job)
    if facts.has_work:
        drop_work(session, job)
        session.flush()
        facts = _read_facts(session, job)
    if job.stage == Stage.MODERATING:
        withdraw_review(session, job.id)
    book = recorded_book(session, str(job.pricing["book"]), str(job.pricing["book_hash"]))
    advance(job, state, at=moment)
    job.progress = 100 if state is JobState.COMPLETED else job.progress
    if error is not None:
        job.error_code, job.error_message = error
        if error[0] == "content_refused":
            # A URL of the store's own to a clip of what was refused works for a moment only.
            job.files_expire_at = moment
    if film is not None:
        membership = book.membership(str(job.pricing["customer"]["membership"]))
        job.film_key, job.poster_key, job.sprites_key = film.key, film.poster_key, film.sprites_key
        job.film = film.measured()
        job.files_expire_at = moment + film_retention(job, membership)
    receipt = make_receipt(book, job)
    _write_end(session, job, receipt, facts, film.entry if film is not None else _NO_ENTRY)
    expire_inputs(session, job, moment)
    end_in_group(session, job)
    if facts.has_reservation:
        used = receipt.price
        terms: dict[str, Any] = {"free_seconds": used.free_seconds_used, "promotions": used.promotions}
        settle_reservation(session, job.quote_id or job.id, **terms)
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


def _read_facts(session: Session, job: Job) -> Any:
    """Return what settle_read.sql reads of a job."""
    inputs = {
        "job_id": job.id,
        "owner": job.quote_id or job.id,
        "account_id": job.account_id,
        "project_id": job.project_id,
        "test": job.test,
    }
    return _READ.run(session, inputs).one()


# The attributes of a job that its end sets.
_ENDED = (
    *("state", "finished_at", "progress", "error_code", "error_message"),
    *("film_key", "poster_key", "sprites_key", "film", "files_expire_at"),
)


# The fields of a Spec that decide on a film's marks; the Spec leaves out those that have their default.
_POLICY = ("visible_label", "deepfake")


def _write_end(session: Session, job: Job, receipt: Receipt, facts: Any, entry: RegistryEntry) -> None:
    """Write the job's end, its receipt, its film's entry in the registry and its last event in one statement."""
    columns = receipt_columns(job, receipt)
    columns["gpu_milliseconds"] = int(facts.gpu_seconds * 1000)
    row = ReceiptRow(job_id=job.id, body=receipt.to_json().decode(), **columns)
    event = new_job_event(
        session,
        job,
        f"video.{job.state}",
        sequence=facts.last_sequence + 1,
        endpoints=facts.endpoints or (),
        receipt=row,
    )
    inputs = {name: getattr(job, name) for name in _ENDED} | columns | event.inputs() | entry.inputs()
    inputs |= {"job_id": job.id, "body": row.body, "now": job.finished_at}
    inputs["policy"] = json.dumps({name: job.spec[name] for name in _POLICY if name in job.spec})
    inputs["film"] = None if job.film is None else json.dumps(job.film)
    _WRITE.run(session, inputs, flush=False)
    mark_written(job, *_ENDED)
    publish_after_commit(session, job.id, {"type": event.event.type})


def _count(job: Job, *, tier: str, seconds: float, age_seconds: float, charge: int) -> None:
    # What was refused is no fault of the service, for which alerts look.
    state = "refused" if job.error_code == "content_refused" else job.state
    JOBS_ENDED.labels(state, job.model, job.test).inc()
    if job.test:
        return
    REVENUE.labels(job.currency).inc(charge)
    DELIVERED_SECONDS.labels(job.model).inc(seconds)
    if job.state == JobState.COMPLETED:
        JOB_SECONDS.labels(job.model, tier).observe(age_seconds)


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
