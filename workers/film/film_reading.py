"""Read the pictures of a film once: what they measure, and what is made of the decoded frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workers.film.film_index import film_index
from workers.film.key_frame_hashes import KeyFrameHashes
from workers.film.measure import FrameReader, Measure, measure
from workers.film.thumbnails import FilmPictures


@dataclass(frozen=True)
class FilmReading:
    """A film's measure, its poster and sprite sheet, and the hashes of its frames."""

    measure: Measure
    pictures: FilmPictures
    frame_hashes: bytes


def read_film(path: Path, frame_readers: Sequence[FrameReader] = ()) -> FilmReading:
    """Decode the film at `path` once, every picture. Raises FilmError as `measure` does, and what a reader raises.

    Whatever else looks at decoded frames is a further reader: it is called with each frame's number and the frame.
    """
    index = film_index(path)
    pictures, hashes = FilmPictures(index), KeyFrameHashes(index)
    facts = measure(path, frame_readers=(*frame_readers, pictures.read, hashes.read))
    return FilmReading(facts, pictures, hashes.hashes)
