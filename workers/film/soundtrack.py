"""The sound of a film out of the sounds of its clips, sample by sample beside the pictures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from workers.film.encoding import SOUND_RATE, FilmError
from workers.film.ffmpeg import run
from workers.film.sound_file import Samples, fitted_sound, read_sound

# How a clip begins: `continued` goes on with the shot of the clip before it.
Joint = Literal["continued", "cut", "crossfade"]

# An equal-power fade of 15 ms on either side of a joint: short enough to be no pause, long enough to be no click.
FADE_SAMPLES = SOUND_RATE * 15 // 1000
# The stretch on either side of a joint in a shot that says how large its steps are.
_STEP_SAMPLES = SOUND_RATE // 100
_PIECE = 10 * SOUND_RATE
_SECONDS_MAX = 300.0


@dataclass(frozen=True)
class ClipSound:
    """The sound file of one clip, the clip's frames, and how it begins."""

    path: Path
    frames: int
    joint: Joint = "cut"


def sample_at(frame: int, fps: Fraction) -> int:
    """Return the number of the sample with which a frame of a film begins. Rounded from the film's start, so that no
    error grows with the number of clips.
    """
    return int(Fraction(frame * SOUND_RATE) / fps + Fraction(1, 2))


def join_sounds(clips: Sequence[ClipSound], buffer: Path, *, fps: Fraction, crossfade_frames: int) -> Samples:
    """Return the film's sound, float32 [n, 2] at 48 kHz, in a file that is mapped into memory (`buffer`, raw samples).

    Each sound is cut, or padded with silence, to its clip's frames. Where pictures are cut, sounds fade out and in
    within `FADE_SAMPLES`; where pictures cross-fade, sounds do so over the same frames; where a shot goes on, its sound
    does too, unless there is a step. All fades keep the power. Raises FilmError for a sound that cannot be read.
    """
    starts, total = _starts(clips, crossfade_frames)
    film = np.memmap(buffer, np.float32, "w+", shape=(sample_at(total, fps), 2))
    for clip, start in zip(clips, starts, strict=True):
        begin, end = sample_at(start, fps), sample_at(start + clip.frames, fps)
        samples = _fitted(read_sound(clip.path), end - begin)
        if begin:
            overlap = sample_at(start + crossfade_frames, fps) - begin if clip.joint == "crossfade" else 0
            _fade(film, samples, begin, overlap=overlap, continued=clip.joint == "continued")
        film[begin:end] += samples
    film.flush()
    return film


def mix_track(film: Samples, track: Path, *, sound_gain: float, audio_gain: float, buffer: Path) -> None:
    """Mix an uploaded track into the film's sound, in place; gains in dB. A short track ends, a long one is cut.

    `buffer` is a file for its samples. Raises FilmError for a track that cannot be decoded.
    """
    graph = fitted_sound(track, len(film)).output(str(buffer), f="f32le", acodec="pcm_f32le", ar=SOUND_RATE, ac=2)
    run(graph, seconds_max=_SECONDS_MAX)
    if buffer.stat().st_size != film.nbytes:
        raise FilmError("the audio track cannot be decoded to the film's length")
    added = np.memmap(buffer, np.float32, "r", shape=film.shape)
    for part in pieces(len(film)):
        film[part] = film[part] * amplitude(sound_gain) + added[part] * amplitude(audio_gain)


def scale(film: Samples, gain: float) -> None:
    """Change a sound by `gain` dB, in place."""
    for part in pieces(len(film)):
        film[part] *= amplitude(gain)


def amplitude(decibels: float) -> np.float32:
    """Return the factor of a gain."""
    return np.float32(10 ** (decibels / 20))


def pieces(length: int) -> Iterator[slice]:
    """Yield the slices of a long sound, so that no copy of the whole is made."""
    return (slice(start, min(start + _PIECE, length)) for start in range(0, length, _PIECE))


def _starts(clips: Sequence[ClipSound], crossfade_frames: int) -> tuple[list[int], int]:
    """Return the frame of the film at which each clip starts, and the frames of the film."""
    starts, end = [], 0
    for clip in clips:
        start = end - crossfade_frames if clip.joint == "crossfade" else end
        starts.append(start)
        end = start + clip.frames
    return starts, end


def _fitted(samples: Samples, count: int) -> Samples:
    """Return exactly `count` samples. A sound that ends before its clip fades out there."""
    missing = count - len(samples)
    if missing <= 0:
        return samples[:count].copy()
    fitted = np.zeros((count, 2), np.float32)
    fitted[: len(samples)] = samples
    if missing > 1:
        length = min(FADE_SAMPLES, len(samples))
        fitted[len(samples) - length : len(samples)] *= _falling(length)
    return fitted


def _fade(film: Samples, samples: Samples, begin: int, *, overlap: int, continued: bool) -> None:
    """Fade the film out before a joint and the clip's samples in behind it, or both across `overlap` samples."""
    if overlap:
        film[begin : begin + overlap] *= _falling(overlap)
        samples[:overlap] *= _falling(overlap)[::-1]
    elif not (continued and _goes_on(film[max(0, begin - _STEP_SAMPLES) : begin], samples[:_STEP_SAMPLES])):
        out, into = min(FADE_SAMPLES, begin), min(FADE_SAMPLES, len(samples))
        film[begin - out : begin] *= _falling(out)
        samples[:into] *= _falling(into)[::-1]


def _goes_on(before: Samples, after: Samples) -> bool:
    """Return whether the step from one sound to the next is no larger than the steps within them."""
    if not len(before) or not len(after):
        return True
    steps = [np.abs(np.diff(part, axis=0)).max(initial=0.0) for part in (before, after)]
    return bool(np.abs(after[0] - before[-1]).max() <= max(steps))


def _falling(length: int) -> npt.NDArray[np.float32]:
    """Return a fade-out of equal power, [length, 1]; reversed it is the fade-in."""
    return np.cos((np.arange(length, dtype=np.float32) + 0.5) / length * (np.pi / 2))[:, None].astype(np.float32)
