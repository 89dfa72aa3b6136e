"""The hashes of a film's frames for the registry."""

from typing import Any

from app.provenance.frame_hashes import frame_hash
from workers.film.film_index import FilmIndex

# Frames of a film that are hashed, evenly spread over its key frames.
FRAMES_MAX = 16


class KeyFrameHashes:
    """Makes the PDQ hashes of some key frames of a film as its frames are decoded: `read` is called with each of them.

    `hashes` has 32 bytes a frame, one after the other. Frames without features, such as those of one colour, are left
    out.
    """

    def __init__(self, film: FilmIndex) -> None:
        keys, count = film.key_frames, len(film.key_frames)
        places = (index * count // FRAMES_MAX for index in range(FRAMES_MAX)) if count > FRAMES_MAX else range(count)
        self._numbers = {keys[place] for place in places}
        self.hashes = b""

    def read(self, number: int, frame: Any) -> None:
        """Hash frame `number` (from 0), a decoded frame of PyAV, if it is one of those to be hashed."""
        if number in self._numbers:
            self.hashes += frame_hash(frame) or b""
