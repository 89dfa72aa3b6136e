"""The hashes of a film's frames for the registry."""

from pathlib import Path

import av

from app.provenance.frame_hashes import frame_hash
from workers.film.encoding import FilmError
from workers.film.measure import Measure

# Frames of a film that are hashed, evenly spread over its key frames. One takes about 10 ms.
FRAMES_MAX = 16


def key_frame_hashes(path: Path, measure: Measure) -> bytes:
    """Return the PDQ hashes of some key frames of a measured film, one after the other; 32 bytes each.

    Frames without features, such as those of one colour, are left out. Raises FilmError.
    """
    count = len(measure.key_frames)
    numbers = {index * count // FRAMES_MAX for index in range(FRAMES_MAX)} if count > FRAMES_MAX else set(range(count))
    hashes: list[bytes] = []
    try:
        with av.open(str(path), format="mov", options={"protocol_whitelist": "file"}) as film:
            video = film.streams.video[0]
            key = 0
            for packet in film.demux(video):
                if packet.size:
                    is_chosen = packet.is_keyframe and key in numbers
                    key += packet.is_keyframe
                    if not is_chosen:
                        continue
                hashes += [each for frame in packet.decode() if (each := frame_hash(frame)) is not None]
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise FilmError(f"{path.name} cannot be read as a film: {error}") from error
    return b"".join(hashes)
