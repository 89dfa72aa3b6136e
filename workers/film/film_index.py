"""Read the index of a film of ours: what is known of it before a picture is decoded."""

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av

from workers.film.encoding import FilmError

# Per stream: nothing is decoded.
NO_PICTURES = [{"skip_frame": "all"}] * 2


@dataclass(frozen=True)
class FilmIndex:
    """What the index of a film says. `key_frames` are the numbers of pictures that decode on their own."""

    frames: int
    fps: Fraction
    width: int
    height: int
    key_frames: tuple[int, ...] = field(repr=False)


def film_index(path: Path) -> FilmIndex:
    """Return what the index of the film at `path` says; it is a claim until `measure` has decoded the pictures.

    Raises FilmError when the file is no film.
    """
    try:
        options = {"protocol_whitelist": "file"}
        with av.open(str(path), format="mov", options=options, stream_options=NO_PICTURES) as film:
            if not film.streams.video:
                raise FilmError(f"{path.name} has no pictures")
            video = film.streams.video[0]
            keys = [entry.is_keyframe for entry in video.index_entries]
            seconds = (video.duration or 0) * video.time_base
            width, height = video.codec_context.width, video.codec_context.height
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise FilmError(f"{path.name} cannot be read as a film: {error}") from error
    if not keys or seconds <= 0:
        raise FilmError(f"{path.name} has no pictures")
    return FilmIndex(len(keys), len(keys) / seconds, width, height, tuple(n for n, is_key in enumerate(keys) if is_key))
