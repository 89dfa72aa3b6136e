"""Find films in the registry: by the hash of a file, by what a watermark carries, and by hashes of frames."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from app.provenance.backfill_tables import FilmSuccessor
from app.provenance.frame_hashes import as_rows, hash_parts
from app.provenance.pdq import DISTANCE_MAX, distances
from app.provenance.registry_tables import RegistryFilm
from app.sql_statements import sql_file

# So many frames of a film must be like some of the file, and two frames of the file that differ like some of the film.
FRAMES_MIN = 2
# Hashes of the file, evenly spread, by whose parts films are sought; those that share most parts are compared with all.
SOUGHT_MAX = 32
# Films that count for each part, and films that are compared.
_FILMS_MAX = 100
_COMPARED_MAX = 50
_SIMILAR = sql_file("app.provenance", "find_similar.sql")


@dataclass(frozen=True)
class RegistryMatch:
    """Ids of films in the registry: of the file itself, of those that its watermarks name, of those that look alike.

    `similar` begins with the film that is most alike.
    """

    same_file: tuple[str, ...] = ()
    watermarked: tuple[str, ...] = ()
    similar: tuple[str, ...] = ()


def find_films(
    session: Session, *, hashes: Collection[str], mark_ids: Collection[int], frame_hashes: bytes
) -> RegistryMatch:
    """Return the films of the registry that a file is, or is made of.

    `hashes` are the SHA-256 of the file, or of the files that a film had: one that was delivered before it got its
    marks is the same film. `mark_ids` are those of the watermarks in it, `frame_hashes` the PDQ hashes of its frames,
    one after the other.
    """
    earlier = session.scalars(select(FilmSuccessor.film_id).where(FilmSuccessor.old_sha256.in_(hashes))).all()
    query = select(RegistryFilm.film_id, RegistryFilm.sha256, RegistryFilm.mark_id).where(
        or_(RegistryFilm.sha256.in_(hashes), RegistryFilm.film_id.in_(earlier), RegistryFilm.mark_id.in_(mark_ids))
    )
    rows = session.execute(query.order_by(RegistryFilm.film_id)).all()
    order = list(mark_ids)
    marked = sorted((row for row in rows if row.mark_id in mark_ids), key=lambda row: order.index(row.mark_id))
    return RegistryMatch(
        same_file=tuple(row.film_id for row in rows if row.sha256 in hashes or row.film_id in earlier),
        watermarked=tuple(row.film_id for row in marked),
        similar=_find_similar(session, frame_hashes) if frame_hashes else (),
    )


def _find_similar(session: Session, frame_hashes: bytes) -> tuple[str, ...]:
    """Return the films of which frames look like those of the file, the most alike first.

    A picture, or a clip that shows only one, is like none: it may be what a film was made from.
    """
    own = np.unique(as_rows(frame_hashes), axis=0, return_index=True)[1]
    rows = as_rows(frame_hashes)[np.sort(own)]  # without copies, in the file's order
    if not _differ(rows):
        return ()
    count = min(len(rows), SOUGHT_MAX)
    sought = rows[np.arange(count) * len(rows) // count]
    inputs = {"parts": hash_parts(sought.tobytes()), "films_max": _FILMS_MAX, "compared_max": _COMPARED_MAX}
    alike: list[tuple[float, str]] = []
    for film_id, hashes in _SIMILAR.run(session, inputs):
        between = distances(as_rows(hashes), rows)  # [film, file]
        nearest = between.min(axis=1)
        near = nearest[nearest <= DISTANCE_MAX]
        if len(near) >= FRAMES_MIN and _differ(rows[between.min(axis=0) <= DISTANCE_MAX]):
            alike.append((float(near.mean()), film_id))
    return tuple(film_id for _, film_id in sorted(alike))


def _differ(rows: npt.NDArray[np.uint8]) -> bool:
    """Return whether two of these hashes, uint8 [n, 32], are of frames that do not look alike."""
    return bool((distances(rows, rows) > DISTANCE_MAX).any())
