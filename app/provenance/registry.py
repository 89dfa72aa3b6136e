"""Find films in the registry: by the hash of a file, by what a watermark carries, and by hashes of frames."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from app.provenance.frame_hashes import as_rows, hash_parts
from app.provenance.pdq import DISTANCE_MAX, distances
from app.provenance.registry_tables import RegistryFilm
from app.sql_statements import sql_file

# Frames of a film that must be like one of the file; a film of fewer hashes needs all of them.
FRAMES_MIN = 2
# Films that share a part of a hash with the file, of which the likeliest are compared.
_CANDIDATES_MAX = 1_000
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


def find_films(session: Session, *, sha256: str, mark_ids: Collection[int], frame_hashes: bytes) -> RegistryMatch:
    """Return the films of the registry that a file is, or is made of.

    `mark_ids` are those of the watermarks in it, `frame_hashes` the PDQ hashes of its frames, one after the other.
    """
    query = select(RegistryFilm.film_id, RegistryFilm.sha256, RegistryFilm.mark_id).where(
        or_(RegistryFilm.sha256 == sha256, RegistryFilm.mark_id.in_(mark_ids))
    )
    rows = session.execute(query.order_by(RegistryFilm.film_id)).all()
    order = list(mark_ids)
    marked = sorted((row for row in rows if row.mark_id in mark_ids), key=lambda row: order.index(row.mark_id))
    return RegistryMatch(
        same_file=tuple(row.film_id for row in rows if row.sha256 == sha256),
        watermarked=tuple(row.film_id for row in marked),
        similar=_find_similar(session, frame_hashes) if frame_hashes else (),
    )


def _find_similar(session: Session, frame_hashes: bytes) -> tuple[str, ...]:
    """Return the films of which frames look like those of the file, the most alike first."""
    inputs = {"parts": hash_parts(frame_hashes), "candidates_max": _CANDIDATES_MAX, "compared_max": _COMPARED_MAX}
    own = as_rows(frame_hashes)
    alike: list[tuple[float, str]] = []
    for film_id, hashes in _SIMILAR.run(session, inputs):
        nearest = distances(as_rows(hashes), own).min(axis=1)
        near = nearest[nearest <= DISTANCE_MAX]
        if len(near) >= min(FRAMES_MIN, len(nearest)):
            alike.append((float(near.mean()), film_id))
    return tuple(film_id for _, film_id in sorted(alike))
