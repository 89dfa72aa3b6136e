"""Give films that were delivered without marks a file with marks: which films, by whom, and the change of the file.

The file itself is made by `workers.backfill`. Nothing here waits for the store.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Select, and_, cast, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.clock import lease_now, now
from app.db import new_id
from app.jobs.links import LINK_SECONDS
from app.jobs.settle import RegistryEntry
from app.jobs.tables import Job
from app.provenance.backfill_tables import MARKS_VERSION, BackfillClaim, BackfillState, FilmSuccessor
from app.provenance.registry_tables import RegistryFilm

# A step on one film (fetching it, signing it, storing it) takes less.
LEASE = timedelta(minutes=15)
# A link and then a URL of the store that it leads to, an hour for a download that began with it, and the difference
# between clocks.
FIRST_FILE_STAYS = timedelta(seconds=LINK_SECONDS) + timedelta(hours=2)


@dataclass(frozen=True)
class FilmWithoutMarks:
    """A delivered film whose file may lack marks. `measured` are the facts of its file that were charged.

    `mark_id` is what the registry says about its watermark.
    """

    film_id: str
    key: str
    measured: dict[str, Any]
    mark_id: int | None

    @property
    def sha256(self) -> str:
        return str(self.measured["sha256"])


@dataclass(frozen=True)
class FilmLease:
    """The lease of one backfill on one film. The film's new file is stored under `new_key`."""

    film: FilmWithoutMarks
    new_key: str


def unmarked_films(session: Session, *, after: str, limit: int, again: bool = False) -> list[FilmWithoutMarks]:
    """Return the next films that nobody works on, by their ids behind `after`.

    With `again`, those too that were skipped before.
    """
    query = _unmarked(session, again=again).where(RegistryFilm.film_id > after)
    rows = session.execute(query.order_by(RegistryFilm.film_id).limit(limit))
    return [FilmWithoutMarks(row.film_id, row.film_key, row.film, row.mark_id) for row in rows]


def count_unmarked(session: Session, *, again: bool = False) -> tuple[int, int]:
    """Return how many such films there are, and the bytes of their files."""
    films = _unmarked(session, again=again).subquery()
    size = func.coalesce(func.sum(cast(films.c.film["bytes"].astext, BigInteger)), 0)
    count, total = session.execute(select(func.count(), size).select_from(films)).one()
    return int(count), int(total)


def _unmarked(session: Session, *, again: bool) -> Select[Any]:
    claim = BackfillClaim
    free = or_(claim.film_id.is_(None), _is_free(session, again=again))
    return (
        select(RegistryFilm.film_id, RegistryFilm.mark_id, Job.film_key, Job.film)
        .join(Job, Job.id == RegistryFilm.film_id)
        .outerjoin(claim, claim.film_id == RegistryFilm.film_id)
        .where(RegistryFilm.model_version == "", free)
        .where(Job.film_key.is_not(None), Job.files_removed_at.is_(None), Job.deleted_at.is_(None))
    )


def _is_free(session: Session, *, again: bool) -> Any:
    is_left = and_(BackfillClaim.state == BackfillState.RUNNING, BackfillClaim.lease_until <= lease_now(session))
    return or_(is_left, BackfillClaim.state == BackfillState.SKIPPED) if again else is_left


def lease_film(session: Session, film: FilmWithoutMarks, *, again: bool = False) -> FilmLease | None:
    """Lease a film, or return None when another backfill has it or has ended it."""
    # In the folder of the first file, beside which the film's sound and wave are.
    new_key = f"{film.key.rpartition('/')[0]}/{new_id('marked')}.mp4"
    values = {
        "state": BackfillState.RUNNING,
        "new_key": new_key,
        "lease_until": lease_now(session) + LEASE,
        "reason": "",
        "at": now(session),
    }
    row = insert(BackfillClaim).values(film_id=film.film_id, **values)
    row = row.on_conflict_do_update(index_elements=["film_id"], set_=values, where=_is_free(session, again=again))
    leased = session.scalar(row.returning(BackfillClaim.film_id))
    return FilmLease(film, new_key) if leased is not None else None


def keep_lease(session: Session, lease: FilmLease) -> bool:
    """Prolong a lease. Returns whether it is still this backfill's."""
    return _update_claim(session, lease, lease_until=lease_now(session) + LEASE)


def give_back(session: Session, lease: FilmLease) -> None:
    """End a lease whose film is not done: the next backfill takes it."""
    _update_claim(session, lease, lease_until=lease_now(session))


def skip_film(session: Session, lease: FilmLease, reason: str) -> None:
    """Leave a film out, and say why."""
    _update_claim(session, lease, state=BackfillState.SKIPPED, reason=reason[:500])


def keep_file(session: Session, lease: FilmLease, entry: RegistryEntry, *, mark_id: int | None) -> bool:
    """Record that the file of a film has its marks already, and complete its row in the registry.

    Returns False when the lease was lost.
    """
    if not _update_claim(session, lease, state=BackfillState.KEPT):
        return False
    _complete_registry(session, lease, entry, sha256=lease.film.sha256, mark_id=mark_id)
    return True


def replace_file(
    session: Session, lease: FilmLease, entry: RegistryEntry, *, sha256: str, size: int, mark_id: int | None
) -> bool:
    """Let a stored file of `size` bytes take the place of a film's first one, which stays for links that are open.

    The job, the record of both files and the registry change together. Returns False, and changes nothing, when the
    lease was lost, or the film was removed or got another file meanwhile; then the new file is nobody's.
    """
    film = lease.film
    job = session.scalar(select(Job).where(Job.id == film.film_id).with_for_update())
    if job is None or job.files_removed_at is not None or job.deleted_at is not None:
        return False
    if (job.film_key, job.film) != (film.key, film.measured):
        return False
    if not _update_claim(session, lease, state=BackfillState.MARKED):
        return False
    job.film_key, job.film = lease.new_key, {**film.measured, "sha256": sha256, "bytes": size}
    session.add(
        FilmSuccessor(
            film_id=film.film_id,
            old_key=film.key,
            old_film=film.measured,
            old_sha256=film.sha256,
            new_key=lease.new_key,
            new_sha256=sha256,
            new_bytes=size,
            marks_version=MARKS_VERSION,
            marked_at=now(session),
        )
    )
    _complete_registry(session, lease, entry, sha256=sha256, mark_id=mark_id)
    return True


def current_keys(session: Session, keys: Sequence[str]) -> dict[str, str]:
    """Return where the files are now that were stored under these keys, each by its key.

    Specs name the film that they extend by the key that it had when they were made.
    """
    query = select(FilmSuccessor.old_key, FilmSuccessor.new_key).where(FilmSuccessor.old_key.in_(keys))
    moved = {row.old_key: row.new_key for row in session.execute(query)} if keys else {}
    return {key: moved.get(key, key) for key in keys}


def keys_being_written(session: Session, film_ids: Collection[str]) -> set[str]:
    """Return the keys under which running backfills store the new files of these films."""
    claim = BackfillClaim
    running = (claim.state == BackfillState.RUNNING, claim.lease_until > lease_now(session))
    return set(session.scalars(select(claim.new_key).where(claim.film_id.in_(film_ids), *running)))


def first_keys(session: Session, film_ids: Collection[str]) -> set[str]:
    """Return the keys of first files of these films to which links may still be open."""
    successor = FilmSuccessor
    linked = successor.marked_at > now(session) - FIRST_FILE_STAYS
    return set(session.scalars(select(successor.old_key).where(successor.film_id.in_(film_ids), linked)))


def first_key(session: Session, film_id: str, linked_at: datetime) -> str | None:
    """Return the key of the first file of a film that got its marks after `linked_at`, or None.

    A link goes on delivering the file for which it was made, so that no download has parts of both.
    """
    successor = FilmSuccessor
    later = (successor.film_id == film_id, successor.marked_at > linked_at)
    linked = successor.marked_at > now(session) - FIRST_FILE_STAYS
    return session.scalar(select(successor.old_key).where(*later, linked))


def _update_claim(session: Session, lease: FilmLease, **values: Any) -> bool:
    claim = update(BackfillClaim).where(
        BackfillClaim.film_id == lease.film.film_id,
        BackfillClaim.new_key == lease.new_key,
        BackfillClaim.state == BackfillState.RUNNING,
    )
    updated = session.scalar(claim.values(at=now(session), **values).returning(BackfillClaim.film_id))
    return updated is not None


def _complete_registry(
    session: Session, lease: FilmLease, entry: RegistryEntry, *, sha256: str, mark_id: int | None
) -> None:
    """Write what is known of the film now. Its version of the model stays unknown."""
    values = {name: value for name, value in entry.inputs().items() if name != "model_version"}
    row = update(RegistryFilm).where(RegistryFilm.film_id == lease.film.film_id)
    session.execute(row.values(sha256=sha256, mark_id=mark_id, **values))
