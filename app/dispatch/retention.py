"""Retention: delete expired files, and files that no row references, from storage. Receipts and money stay.

It runs in its own thread, parallel to the repairs: a store that hangs must not delay the repair of lost takes. Each
chore is harmless when done twice, so it does not verify leadership, whose lock a hanging store would hold.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import cycle, islice

from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Session

from app.assets import remove as assets
from app.catalog.models import load_catalog
from app.clock import now
from app.db import transaction
from app.dispatch.eta_accuracy import forget_forecasts
from app.dispatch.maintenance import count_repairs
from app.dispatch.registry_repair import RegistryRepair
from app.dispatch.service_figures import add_closed_figures
from app.dispatch.unreferenced_files import unreferenced_keys
from app.dispatch.worker_registry import remove_gone_workers
from app.jobs import quarantine
from app.jobs.delete import remove_files
from app.jobs.file_references import asset_is_awaited, film_is_awaited
from app.jobs.retirement_notices import account_batch, accounts_to_notify, notify_account, retiring_models
from app.jobs.tables import Job
from app.moderation.checked_files import forget_answers
from app.moderation.repeaters import forget_refusals
from app.settings import get_settings
from app.storage import Stat, get_storage
from app.webhooks.deliveries import prune_deliveries

log = logging.getLogger(__name__)

FILMS_BATCH = 5
ASSETS_BATCH = 20
KEYS_BATCH = 500
DELIVERIES_BATCH = 500
WORKERS_BATCH = 100
# How long a job is left alone whose files could not be removed.
RETRY_AFTER = timedelta(minutes=10)
PARTIAL_AGE = timedelta(days=1)
# Ids are random over 32 letters (app.db), so their first letter divides the store into 32 parts of similar size.
ID_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"
TICK_SECONDS = 1.0
# Pause after a chore has failed: most often the store is unreachable.
RETRY_SECONDS = 30.0


def expired_films() -> int:
    """Delete the files of a few jobs whose retention has ended, or that were deleted. Returns the number of jobs.

    A film keeps its clips while an unfinished retake, or a retake of a retake, needs them. A job whose files cannot be
    removed is left alone for a while, and the others go on.
    """
    with transaction() as session:
        due = session.scalars(_expired_films(session).order_by(Job.files_expire_at).limit(FILMS_BATCH)).all()
        job_ids = [job.id for job in due]
    return sum(_remove_film(job_id) for job_id in job_ids)


def _expired_films(session: Session) -> Select[Job]:
    moment = now(session)
    return select(Job).where(
        Job.files_expire_at <= moment,
        Job.files_removed_at.is_(None),
        or_(Job.files_retry_at.is_(None), Job.files_retry_at <= moment),
        ~film_is_awaited(),
    )


def _remove_film(job_id: str) -> int:
    """Delete the files of one job, and return 1; 0 when another process does, or the store refuses.

    The row says so first, so that nothing new can refer to the files. After a crash in between, `unreferenced_films`
    finds them.
    """
    with transaction() as session:
        job = session.scalar(_expired_films(session).where(Job.id == job_id).with_for_update(skip_locked=True))
        if job is None:
            return 0
        job.files_removed_at = now(session)
    try:
        remove_files(job_id)
    except Exception:
        log.exception("The files of %s could not be removed", job_id)
        with transaction() as session:
            job = session.get_one(Job, job_id, with_for_update=True)
            job.files_removed_at, job.files_retry_at = None, now(session) + RETRY_AFTER
        return 0
    return 1


def expired_assets() -> int:
    """Delete a few expired uploads that no unfinished job reads, and the files of deleted ones. Returns how many."""
    with transaction() as session:
        expired = assets.delete_expired(session, awaited=asset_is_awaited(), limit=ASSETS_BATCH)
    return len({*expired, *assets.remove_files(limit=ASSETS_BATCH)})


def expired_quarantine() -> int:
    """Delete a few refused films that moderators have seen for long enough. Returns how many."""
    return quarantine.remove_expired(limit=FILMS_BATCH)


def unreferenced_quarantine() -> int:
    """Delete files of refused films that no row references: of takes that were lost. Returns how many."""
    pick = partial(quarantine.unreferenced_quarantine, older_than=PARTIAL_AGE)
    return _remove_unreferenced(quarantine.FOLDER, pick)


def old_checks(session: Session) -> int:
    """Delete some answers of checkers, and counts of refusals, that are too old to count. Returns how many."""
    return forget_answers(session, limit=DELIVERIES_BATCH) + forget_refusals(session, limit=DELIVERIES_BATCH)


def old_deliveries(session: Session) -> int:
    """Delete some deliveries that ended long ago, with their attempts. Returns how many."""
    return prune_deliveries(session, limit=DELIVERIES_BATCH)


def unreferenced_films(prefix: str) -> int:
    """Delete the files under `takes/…` or `films/…` that no row references: of lost, failed or released takes.

    Not deleted are, of an unfinished job, the files that its running takes write and its units reference; of a job
    with a film, the film, its pictures, and the clips that a retake could reuse. The store is listed first, then the
    running takes are read, then the referenced keys: a take that ends meanwhile either still counts as running, or its
    files are already referenced, so none of them is mistaken for an orphan. Returns how many were deleted.
    """
    return _remove_unreferenced(prefix, unreferenced_keys)


def unreferenced_assets() -> int:
    """Delete uploaded files that no asset references. Returns how many."""
    return sum(_remove_unreferenced(folder, assets.unreferenced_files) for folder in assets.FOLDERS)


def _remove_unreferenced(prefix: str, pick: Callable[[Session, list[Stat]], list[str]]) -> int:
    """Delete the files under `prefix` that `pick` returns, in batches. No session waits for the store."""
    storage, removed = get_storage(), 0
    listed = storage.list(prefix)
    while stats := list(islice(listed, KEYS_BATCH)):
        with transaction() as session:
            keys = pick(session, stats)
        for key in keys:
            storage.delete(key)
        removed += len(keys)
    return removed


def gone_workers(session: Session) -> int:
    """Remove rows of worker processes that ended long ago. Returns how many."""
    return remove_gone_workers(session, limit=WORKERS_BATCH)


def notify_of_retirements() -> int:
    """Notify the accounts that have used a model lately which will retire. Returns how many.

    The accounts are read in batches, each in a transaction of its own.
    """
    count, after = 0, ""
    with transaction() as session:
        models = retiring_models(session, load_catalog(get_settings().catalog_dir).values())
    while models:
        with transaction() as session:
            account_ids = account_batch(session, after)
            due = [(each, *account) for each in models for account in accounts_to_notify(session, each, account_ids)]
        for model, account_id, is_test in due:
            with transaction() as session:
                count += notify_account(session, account_id, model, is_test=is_test)
        if not account_ids:
            break
        after = account_ids[-1]
    return count


def partial_uploads() -> int:
    """Delete uploads that were started a day ago and never completed. Returns how many."""
    with transaction() as session:
        before = now(session) - PARTIAL_AGE
    return get_storage().remove_partial(before)


@dataclass
class Chore:
    """A periodic piece of work, most often a deletion, with the pause in seconds between two runs."""

    name: str
    do: Callable[[], int]
    pause_seconds: float
    is_counted: bool = True  # among the repairs that metrics and the console show
    due_at: float = 0.0  # on the monotonic clock


def chores() -> list[Chore]:
    """Return all chores. One pass over the takes and films in storage lasts about two hours."""
    parts: Iterator[str] = cycle(f"{folder}/video_{letter}" for folder in ("takes", "films") for letter in ID_LETTERS)
    return [
        Chore("expired_films", expired_films, 1.0),
        Chore("expired_assets", expired_assets, 5.0),
        Chore("old_deliveries", lambda: _in_transaction(old_deliveries), 5.0),
        Chore("expired_quarantine", expired_quarantine, 5.0),
        Chore("old_checks", lambda: _in_transaction(old_checks), 60.0),
        Chore("old_forecasts", lambda: _in_transaction(forget_forecasts), 60.0),
        Chore("service_figures", add_closed_figures, 1.0, is_counted=False),
        Chore("retirement_notices", notify_of_retirements, 600.0, is_counted=False),
        Chore("gone_workers", lambda: _in_transaction(gone_workers), 60.0),
        Chore("registry_rows", RegistryRepair().run, 60.0),
        Chore("unnamed_files", lambda: unreferenced_films(next(parts)), 120.0),
        Chore("unnamed_assets", unreferenced_assets, 3600.0),
        Chore("unnamed_quarantine", unreferenced_quarantine, 3600.0),
        Chore("partial_uploads", partial_uploads, 3600.0),
    ]


def clean(chores_to_run: Iterable[Chore]) -> dict[str, int]:
    """Run each chore that is due, once. Returns the count of each; one that fails is logged and retried later."""
    removed: dict[str, int] = {}
    for chore in chores_to_run:
        if chore.due_at > time.monotonic():
            continue
        try:
            removed[chore.name] = chore.do()
            chore.due_at = time.monotonic() + chore.pause_seconds
            if removed[chore.name] and chore.is_counted:
                with transaction() as session:
                    count_repairs(session, chore.name, removed[chore.name])
        except Exception:
            log.exception("The chore %s failed", chore.name)
            chore.due_at = time.monotonic() + max(chore.pause_seconds, RETRY_SECONDS)
    return removed


def run_retention(stop: threading.Event, leads: Callable[[], bool]) -> None:
    """Run the chores until `stop` is set, while `leads()` returns that this process is the leader."""
    all_chores = chores()
    while not stop.wait(TICK_SECONDS):
        if leads():
            clean(all_chores)


def _in_transaction(action: Callable[[Session], int]) -> int:
    with transaction() as session:
        return action(session)
