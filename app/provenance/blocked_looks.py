"""What films that were removed after a report look like: the hashes of their frames, which the registry keeps."""

import numpy as np
import numpy.typing as npt
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.provenance.blocked_tables import BlockedFile
from app.provenance.frame_hashes import as_rows
from app.provenance.pdq import DISTANCE_MAX, HASH_BYTES
from app.provenance.registry_tables import RegistryFilm

# Removed films that are compared, the last ones: so many are read and compared in about 0.2 s.
FILMS_MAX = 10_000


def blocked_version(session: Session) -> str | None:
    """Return a short text that changes with each removal, or None while nothing was removed."""
    count, last = session.execute(select(func.count(), func.max(BlockedFile.blocked_at))).one()
    return f"{count} {last.isoformat()}" if count else None


def find_blocked_look(session: Session, frame_hashes: bytes) -> str | None:
    """Return the id of the removed film of which a frame is most like one of these, or None where none is.

    `frame_hashes` are PDQ hashes, one after the other. Frames are alike as PDQ's authors advise: up to DISTANCE_MAX
    different bits. A mirrored or rotated frame is none of these.
    """
    if not frame_hashes:
        return None
    last = select(BlockedFile.film_id).order_by(BlockedFile.blocked_at.desc()).limit(FILMS_MAX)
    # Films of test keys are test pictures, which all look alike.
    wanted = (RegistryFilm.film_id.in_(last), RegistryFilm.test.is_(False), RegistryFilm.frame_hashes != b"")
    films = select(RegistryFilm.film_id, RegistryFilm.frame_hashes).where(*wanted)
    rows = session.execute(films.order_by(RegistryFilm.film_id)).all()
    if not rows:
        return None
    blocked = as_rows(b"".join(row.frame_hashes for row in rows)).view(np.uint64)  # [n, 4]
    ends = np.cumsum([len(row.frame_hashes) // HASH_BYTES for row in rows])
    distance, place = min(_nearest(blocked, own) for own in as_rows(frame_hashes).view(np.uint64))
    return rows[int(np.searchsorted(ends, place, side="right"))].film_id if distance <= DISTANCE_MAX else None


def _nearest(blocked: npt.NDArray[np.uint64], own: npt.NDArray[np.uint64]) -> tuple[int, int]:
    """Return the distance of a hash, [4], to the nearest of these, [n, 4], and its place among them."""
    between = np.bitwise_count(blocked ^ own).sum(axis=1, dtype=np.uint16)
    place = int(between.argmin())
    return int(between[place]), place
