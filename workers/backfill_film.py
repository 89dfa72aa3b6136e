"""Give one delivered film its marks: fetch, copy the streams with the label, sign, store under a new key, read back.

Every step before the last writes nothing that anybody reads. A process that is killed leaves at most a file that the
retention removes, and a lease that ends.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError
from sqlalchemy.orm import Session

from app.clock import now
from app.db import transaction
from app.jobs.backfill import FilmLease, keep_file, keep_lease, replace_file, skip_film
from app.jobs.settle import RegistryEntry
from app.jobs.spec import Spec
from app.jobs.tables import Job
from app.provenance.manifest import FilmOrigin
from app.provenance.watermark import watermark_key
from app.storage import get_storage
from workers.film.copy_streams import copy_with_tags
from workers.film.encoding import FilmError
from workers.film.film_reading import read_film
from workers.film.measure import Measure, measure
from workers.film.watermark_check import carries_watermark
from workers.film_marks import UnmarkedFilm, check_marks, film_origin, metadata, registry_entry, sign


class UnusableFilm(Exception):
    """A film cannot be marked; the message says why. Its file stays what it is."""


class LeaseEnded(Exception):
    """Another backfill has the film, or it was removed meanwhile. Nothing was changed."""


@dataclass(frozen=True)
class BackfillResult:
    """What became of one film: marked, kept or skipped, and why it was skipped."""

    state: str
    reason: str = ""


def backfill_film(lease: FilmLease) -> BackfillResult:
    """Give a leased film its marks and return what became of it.

    Raises LeaseEnded, StorageError, and Stopped where the certificate is of no use: then nothing is wrong with the
    film, and the caller gives it back.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="cinemeter-backfill-") as folder:
            return _backfill(lease, Path(folder))
    except (UnusableFilm, FilmError, ValidationError) as error:
        reason = "its order cannot be read" if isinstance(error, ValidationError) else str(error)
        with transaction() as session:
            skip_film(session, lease, reason)
        return BackfillResult("skipped", reason)


def _backfill(lease: FilmLease, folder: Path) -> BackfillResult:
    film, first = lease.film, folder / "first.mp4"
    try:
        fetched = get_storage().get_file(film.key, first)
    except FileNotFoundError:
        raise UnusableFilm("its file is not in storage") from None
    if fetched.sha256 != film.sha256:
        raise UnusableFilm("its file is not the one that was delivered")
    reading = read_film(first)
    facts = reading.measure
    with transaction() as session:
        job = session.get_one(Job, film.film_id)
        origin = film_origin(session, film.film_id, Spec.model_validate(job.spec))
        # Which version of the model made it was not written down.
        origin = replace(origin, made_at=job.finished_at or origin.made_at, marked_at=now(session), model_version="")
    entry = registry_entry(reading.frame_hashes, origin)
    mark_id = film.mark_id
    if mark_id is not None and not carries_watermark(first, watermark_key()):
        # Its order has a number, and a worker of the version before watermarks drew it.
        mark_id = None
    if _is_marked(first, film.film_id):
        _change(lambda session: keep_file(session, lease, entry, mark_id=mark_id))
        return BackfillResult("kept")
    _mark(lease, folder, first, facts, origin)
    _store(lease, folder / "signed.mp4", entry, mark_id)
    return BackfillResult("marked")


def _mark(lease: FilmLease, folder: Path, first: Path, facts: Measure, origin: FilmOrigin) -> None:
    """Write the signed film beside the first one. Raises FilmError, LeaseEnded and Stopped."""
    _change(lambda session: keep_lease(session, lease))
    copy_with_tags(first, folder / "labelled.mp4", metadata(lease.film.film_id))
    sign(folder / "labelled.mp4", folder / "signed.mp4", origin)
    signed = measure(folder / "signed.mp4")
    same = ("frames", "fps", "width", "height", "has_audio", "audio_seconds", "key_frames")
    differing = [name for name in same if getattr(signed, name) != getattr(facts, name)]
    if differing:
        raise FilmError(f"the marked film differs in {', '.join(differing)}")


def _store(lease: FilmLease, signed: Path, entry: RegistryEntry, mark_id: int | None) -> None:
    """Store the signed film, read it back, and let it take the first one's place. Raises LeaseEnded."""
    storage = get_storage()
    _change(lambda session: keep_lease(session, lease))
    sent = storage.put_file(lease.new_key, signed, "video/mp4")
    stored = signed.with_name("stored.mp4")
    try:
        if storage.get_file(lease.new_key, stored).sha256 != sent.sha256:
            raise FilmError("the stored film differs from the one that was uploaded")
        check_marks(stored, lease.film.film_id)
        terms = {"sha256": sent.sha256, "size": sent.bytes, "mark_id": mark_id}
        _change(lambda session: replace_file(session, lease, entry, **terms))  # type: ignore[arg-type]
    except (LeaseEnded, FilmError, FileNotFoundError):
        # With every version: the film may have been erased meanwhile.
        storage.purge(lease.new_key)
        raise


def _is_marked(film: Path, film_id: str) -> bool:
    try:
        check_marks(film, film_id)
    except UnmarkedFilm:
        return False
    return True


def _change(verb: Callable[[Session], bool]) -> None:
    """Run a verb in a transaction of its own. Raises LeaseEnded when it changed nothing."""
    with transaction() as session:
        is_done = verb(session)
    if not is_done:
        raise LeaseEnded
