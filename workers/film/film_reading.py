"""Read a stored film once: what it measures, and what is made of its decoded frames and its sound."""

from dataclasses import dataclass
from pathlib import Path

from workers.film.film_index import film_index
from workers.film.key_frame_hashes import KeyFrameHashes
from workers.film.measure import Measure, measure
from workers.film.soundtrack import sample_at
from workers.film.thumbnails import FilmPictures
from workers.film.wave_image import WaveImage


@dataclass(frozen=True)
class FilmReading:
    """A film's measure, its poster and sprite sheet, the hashes of its frames, and its wave, flat without sound."""

    measure: Measure
    pictures: FilmPictures
    frame_hashes: bytes
    wave: WaveImage


def read_film(path: Path) -> FilmReading:
    """Decode the film at `path` once, every picture and all sound. Raises FilmError as `measure` does.

    Whatever else looks at decoded frames is a further reader here.
    """
    index = film_index(path)
    pictures, hashes = FilmPictures(index), KeyFrameHashes(index)
    wave = WaveImage(sample_at(index.frames, index.fps))
    facts = measure(path, frame_readers=(pictures.read, hashes.read), sound_readers=(wave.read,))
    return FilmReading(facts, pictures, hashes.hashes, wave)
