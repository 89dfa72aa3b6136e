"""Sound on disk without loss: FLAC of 24 bits at 48 kHz, stereo. AAC is made once, at the finish."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import ffmpeg
import numpy as np
import numpy.typing as npt

from app.assets.sniff import HEAD_BYTES, sniff
from workers.film.encoding import SOUND_RATE, FilmError

Samples = npt.NDArray[np.float32]

SILENCE_PEAK = 2.0**-15
"""A sound that stays below one step of 16 bits is digital silence."""

_PIECE = 2**16


def write_sound(path: Path, samples: Samples, *, rate: int = SOUND_RATE) -> None:
    """Write `samples`, float32 [n, 2] in -1..1 (what is louder is cut), of `rate` per second, as FLAC at 48 kHz.

    Raises FilmError where it cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    resampler = av.AudioResampler(format="s32", layout="stereo", rate=SOUND_RATE)
    position = 0
    try:
        with av.open(str(partial), "w", format="flac") as file:
            stream: Any = file.add_stream("flac", rate=SOUND_RATE, layout="stereo", format="s32")
            for piece in _resampled(samples, rate, resampler):
                piece.pts, piece.time_base = position, Fraction(1, SOUND_RATE)
                position += piece.samples
                file.mux(stream.encode(piece))
            file.mux(stream.encode(None))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise FilmError(f"{path.name} cannot be written: {error}") from error
    partial.replace(path)


def read_sound(path: Path) -> Samples:
    """Return the whole sound of a file, float32 [n, 2] at 48 kHz. Raises FilmError when it cannot be decoded."""
    pieces = list(sound_pieces(path))
    return np.concatenate(pieces) if pieces else np.zeros((0, 2), np.float32)


def sound_length(path: Path) -> int | None:
    """Return how many samples the header of a FLAC file at 48 kHz says that it has, or None where it does not."""
    with av.open(str(path), format="flac", options={"protocol_whitelist": "file"}) as file:
        stream = file.streams.audio[0]
        return stream.duration if stream.rate == SOUND_RATE and stream.time_base == Fraction(1, SOUND_RATE) else None


def sound_pieces(path: Path) -> Iterator[Samples]:
    """Yield the sound of a file, or of a film, piece by piece: float32 [n, 2] at 48 kHz.

    Raises FilmError when it has no sound or cannot be decoded.
    """
    reader = _reader(path)
    resampler = av.AudioResampler(format="flt", layout="stereo", rate=SOUND_RATE)
    try:
        with av.open(str(path), format=reader, options={"protocol_whitelist": "file"}) as file:
            if not file.streams.audio:
                raise FilmError(f"{path.name} has no sound")
            for frame in file.decode(file.streams.audio[0]):
                frame.pts = None
                for piece in resampler.resample(frame):
                    yield piece.to_ndarray().reshape(-1, 2)
            for piece in resampler.resample(None):
                yield piece.to_ndarray().reshape(-1, 2)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise FilmError(f"{path.name} cannot be decoded as a sound: {error}") from error


def fitted_sound(path: Path, samples: int) -> Any:
    """Return the sound of a file as an ffmpeg stream of exactly `samples` samples at 48 kHz, cut or padded at its end.

    Raises FilmError when the file is no sound.
    """
    return (
        ffmpeg.input(str(path), f=_reader(path), protocol_whitelist="file")
        .audio.filter("aresample", SOUND_RATE, first_pts=0)
        .filter("apad", whole_len=samples)
        .filter("atrim", end_sample=samples)
    )


def _reader(path: Path) -> str:
    with path.open("rb") as file:
        media = sniff(file.read(HEAD_BYTES))
    if media is None or "sound" not in media.kinds:
        raise FilmError(f"{path.name} is no sound")
    return media.reader


def sound_frames(samples: Samples, *, rate: int = SOUND_RATE, clip: bool = False, dither: float = 0.0) -> Iterator[Any]:
    """Yield the samples, float32 [n, 2], as frames of PyAV with their times.

    `clip` cuts what is beyond full scale; `dither` is added to every second sample, in 0..1.
    """
    for start in range(0, len(samples), _PIECE):
        piece = np.array(samples[start : start + _PIECE], np.float32, order="C")
        piece[::2] += np.float32(dither)
        piece = np.clip(piece, -1.0, 1.0) if clip else piece
        frame = av.AudioFrame.from_ndarray(piece.reshape(1, -1), format="flt", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        yield frame


def _resampled(samples: Samples, rate: int, resampler: Any) -> Iterator[Any]:
    for frame in sound_frames(samples, rate=rate, clip=True):
        yield from resampler.resample(frame)
    if len(samples):
        yield from resampler.resample(None)
