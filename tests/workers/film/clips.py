"""Small clips whose frames are numbered in their pixels."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from workers.film.clip_writer import ClipWriter
from workers.film.encoding import SOUND_RATE, FilmError

WIDTH, HEIGHT = 128, 96
_BITS = 8


def numbered(number: int, base: int = 0, *, width: int = WIDTH, height: int = HEIGHT) -> npt.NDArray[np.uint8]:
    """A picture [H, W, 3] that shows `number` as eight black and white bars, over a ground of brightness `base`."""
    picture = np.full((height, width, 3), base, np.uint8)
    for bit in range(_BITS):
        picture[: height // 2, bit * width // _BITS : (bit + 1) * width // _BITS] = 255 if number >> bit & 1 else 0
    return picture


def number_of(picture: npt.NDArray[np.uint8]) -> int:
    """Read the number back from a picture of any size."""
    height, width = picture.shape[:2]
    middles = [(2 * bit + 1) * width // (2 * _BITS) for bit in range(_BITS)]
    return sum(1 << bit for bit, column in enumerate(middles) if picture[height // 4, column].mean() > 127)


def write_clip(
    path: Path,
    *,
    numbers: Sequence[int],
    fps: Fraction = Fraction(24),
    base: int = 0,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    key_frames: Sequence[int] = (),
) -> Path:
    """Write a clip whose frames show `numbers`."""
    with ClipWriter(
        path,
        in_width=WIDTH,
        in_height=HEIGHT,
        width=size[0],
        height=size[1],
        fps=fps,
        frames=len(numbers),
        key_frames=key_frames,
    ) as writer:
        for start in range(0, len(numbers), 7):
            writer.write(np.stack([numbered(number, base) for number in numbers[start : start + 7]]))
    return path


def numbers_in(path: Path) -> list[int]:
    """Read what every frame of a film shows."""
    return [number_of(frame) for frame in last_frames(path, count=10_000)]


def last_frames(path: Path, *, count: int) -> npt.NDArray[np.uint8]:
    """Return the last `count` frames of the film at `path` (fewer when it is shorter), at its own size and rate.

    uint8 [F, H, W, 3]. Only the last groups of pictures are decoded. Raises FilmError when it cannot be read.
    """
    try:
        with av.open(str(path), format="mov", options={"protocol_whitelist": "file"}) as film:
            if not film.streams.video:
                raise FilmError(f"{path.name} has no pictures")
            video = film.streams.video[0]
            moments = [(packet.pts, packet.is_keyframe) for packet in film.demux(video) if packet.size]
            if not moments:
                raise FilmError(f"{path.name} has no pictures")
            first = sorted(pts for pts, _ in moments)[-count:][0]
            film.seek(max([pts for pts, is_key in moments if is_key and pts <= first] or [0]), stream=video)
            frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video) if frame.pts >= first]
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise FilmError(f"{path.name} cannot be read as a film: {error}") from error
    return np.stack(frames)  # [F, H, W, 3]


def clicks_in(samples: npt.NDArray[np.float32]) -> list[int]:
    """Return the samples at which clicks are loudest: peaks above a third of the loudest, half a frame apart."""
    level = np.abs(samples).max(axis=1)
    clicks: list[int] = []
    for at in np.argsort(-level):
        if level[at] < level.max() / 3:
            break
        if all(abs(int(at) - other) > SOUND_RATE // 60 for other in clicks):
            clicks.append(int(at))
    return sorted(clicks)


def white_frames(film: Path) -> list[int]:
    """Return the numbers of the white frames of a film."""
    brightness = last_frames(film, count=10_000).mean(axis=(1, 2, 3))
    return [int(number) for number in np.nonzero(brightness > 200)[0]]
