"""Retention: what has outlived its time, and what no row names, leaves storage. Receipts and money stay.

It runs beside the sweeper on a thread of its own: a store that hangs must not keep lost takes from their repair. Each
chore is harmless when done twice, so it needs no proof of leadership, whose lock a hanging store would hold.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import cycle, islice

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from app.assets import remove as assets
from app.clock import now
from app.db import transaction
from app.dispatch.eta_accuracy import forget_forecasts
from app.dispatch.maintenance import count_repairs
from app.jobs.delete import remove_files
from app.jobs.file_references import asset_is_awaited, film_is_awaited
from app.jobs.queue_tables import Take, Unit
from app.jobs.states import FINAL, TakeState
from app.jobs.tables import Job
from app.storage import Stat, get_storage
from app.webhooks.deliveries import prune_deliveries

log = logging.getLogger(__name__)

FILMS_BATCH = 5
ASSETS_BATCH = 20
KEYS_BATCH = 500
DELIVERIES_BATCH = 500
# Files whose job is in no row: a backup may have been restored that is older than they are, so they get a day.
STRANGER_AGE = timedelta(days=1)
PARTIAL_AGE = timedelta(days=1)
# Ids are random in 32 letters (app.db), so their first letter cuts the store into 32 parts of about one size.
LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"
TICK_SECONDS = 1.0
# A chore that broke is left alone for so long: most often the store is away.
BROKEN_SECONDS = 30.0


def expired_films(session: Session) -> int:
    """Remove the files of a few jobs whose retention has ended. Returns of how many jobs.

    A film of which a retake is being made, or a retake of a retake, keeps its clips until that has ended.
    """
    moment = now(session)
    due = session.scalars(
        select(Job)
        .where(Job.files_expire_at <= moment, Job.files_removed_at.is_(None), ~film_is_awaited())
        .order_by(Job.files_expire_at)
        .limit(FILMS_BATCH)
        .with_for_update(skip_locked=True)
    ).all()
    for job in due:
        remove_files(session, job)
    return len(due)


def expired_assets(session: Session) -> int:
    """Remove a few uploaded files whose time is over and that no unfinished job reads. Returns how many."""
    return assets.remove_expired(session, awaited=asset_is_awaited(), limit=ASSETS_BATCH)


def old_deliveries(session: Session) -> int:
    """Remove some deliveries that ended long ago, with their attempts. Returns how many."""
    return prune_deliveries(session, limit=DELIVERIES_BATCH)


def unreferenced_films(prefix: str) -> int:
    """Remove the files under `takes/…` or `films/…` that no row names: of takes that were lost, failed or given back.

    Kept are, of an unfinished job, what its running takes write and what its units name; of a job with a film, the
    film, its pictures, and the clips that a retake could reuse. The store is read first, then the takes that run, then
    the keys that rows name: a take that ends meanwhile is still seen to run, or its files are already named, so none
    of them is mistaken for an orphan. Returns how many went.
    """
    return _remove_unnamed(prefix, _unnamed)


def unreferenced_assets() -> int:
    """Remove uploaded files that no asset names. Returns how many."""
    return sum(_remove_unnamed(folder, assets.unreferenced_files) for folder in assets.FOLDERS)


def _remove_unnamed(prefix: str, among: Callable[[Session, list[Stat]], list[str]]) -> int:
    """Remove the files under `prefix` that `among` picks, some at a time. No session waits for the store."""
    storage, removed = get_storage(), 0
    listed = storage.list(prefix)
    while stats := list(islice(listed, KEYS_BATCH)):
        with transaction() as session:
            keys = among(session, stats)
        for key in keys:
            storage.delete(key)
        removed += len(keys)
    return removed


def _unnamed(session: Session, stats: Iterable[Stat]) -> list[str]:
    """Return the keys among these that no row names.

    Each query sees what was committed before it, so the order counts: running takes before the keys that they leave.
    """
    by_job: dict[str, list[Stat]] = {}
    for stat in stats:
        by_job.setdefault(stat.key.split("/")[1], []).append(stat)
    writing = session.execute(
        select(Take.job_id, Take.id).where(Take.job_id.in_(by_job), Take.state == TakeState.RUNNING)
    ).all()
    prefixes = {f"{folder}/{job_id}/{take_id}/" for job_id, take_id in writing for folder in ("takes", "films")}
    jobs = {job.id: job for job in session.scalars(select(Job).where(Job.id.in_(by_job)))}
    names = _names(session, jobs)
    old = now(session) - STRANGER_AGE
    found = []
    for job_id, theirs in by_job.items():
        for stat in theirs:
            if job_id not in jobs:
                orphan = stat.modified_at < old
            else:
                written = "/".join(stat.key.split("/")[:3]) + "/" in prefixes
                orphan = not written and stat.key not in names
            if orphan:
                found.append(stat.key)
    return found


def _names(session: Session, jobs: dict[str, Job]) -> set[str]:
    """Return every key that these jobs still need."""
    names: set[str | None] = set()
    for job in jobs.values():
        if job.files_removed_at is None:
            names |= {job.film_key, job.poster_key, job.sprites_key}
    units = session.execute(
        select(Unit.job_id, Unit.clip_key, Unit.handover_key, Unit.checkpoint_key).where(
            Unit.job_id.in_(jobs),
            or_(Unit.clip_key.is_not(None), Unit.handover_key.is_not(None), Unit.checkpoint_key.is_not(None)),
        )
    )
    for job_id, clip, handover, checkpoint in units:
        job = jobs[job_id]
        if job.state not in FINAL:
            names |= {clip, handover, checkpoint}
        elif job.film_key is not None and job.files_removed_at is None:
            names.add(clip)
    return {name for name in names if name is not None}


def partial_uploads() -> int:
    """Remove uploads that were begun a day ago and never ended. Returns how many."""
    with transaction() as session:
        before = now(session) - PARTIAL_AGE
    return get_storage().remove_partial(before)


@dataclass
class Chore:
    """Something that is done again and again, with a pause in seconds between two times."""

    name: str
    do: Callable[[], int]
    pause_seconds: float
    due_at: float = 0.0  # on the monotonic clock


def chores() -> list[Chore]:
    """Return all chores. A whole round over the takes and films in storage lasts about two hours."""
    parts: Iterator[str] = cycle(f"{folder}/video_{letter}" for folder in ("takes", "films") for letter in LETTERS)
    return [
        Chore("expired_films", lambda: _in_transaction(expired_films), 1.0),
        Chore("expired_assets", lambda: _in_transaction(expired_assets), 5.0),
        Chore("old_deliveries", lambda: _in_transaction(old_deliveries), 5.0),
        Chore("old_forecasts", lambda: _in_transaction(forget_forecasts), 60.0),
        Chore("unnamed_files", lambda: unreferenced_films(next(parts)), 120.0),
        Chore("unnamed_assets", unreferenced_assets, 3600.0),
        Chore("partial_uploads", partial_uploads, 3600.0),
    ]


def clean(duties: Iterable[Chore]) -> dict[str, int]:
    """Do each chore that is due, once. Returns what each found; one that breaks is logged and left for a while."""
    found: dict[str, int] = {}
    for chore in duties:
        if chore.due_at > time.monotonic():
            continue
        try:
            found[chore.name] = chore.do()
            chore.due_at = time.monotonic() + chore.pause_seconds
            if found[chore.name]:
                with transaction() as session:
                    count_repairs(session, chore.name, found[chore.name])
        except Exception:
            log.exception("The chore %s broke", chore.name)
            chore.due_at = time.monotonic() + max(chore.pause_seconds, BROKEN_SECONDS)
    return found


def run_retention(stop: threading.Event, leads: Callable[[], bool]) -> None:
    """Clean until `stop` is set, while `leads()` says that this process is the one to do it."""
    duties = chores()
    while not stop.wait(TICK_SECONDS):
        if leads():
            clean(duties)


def _in_transaction(verb: Callable[[Session], int]) -> int:
    with transaction() as session:
        return verb(session)
