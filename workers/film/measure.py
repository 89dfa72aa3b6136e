"""Measure a film from its own pictures: billing uses these facts, never the order."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from workers.film.encoding import FilmError
from workers.film.sound_file import SILENCE_PEAK, Samples, sound_pieces

# A picture whose brightness and colours vary by less than this (standard deviation, of 255) is blank.
FLAT_DEVIATION = 1.0
FrameReader = Callable[[int, Any], None]
SoundReader = Callable[[Samples], None]

# Flatness is judged on every so many rows and columns: enough to see anything, little enough to cost nothing.
_FLAT_STRIDE = 8


@dataclass(frozen=True)
class Measure:
    """The facts of one film file. `fps` is exact; `frames / fps` is its length in seconds, exactly.

    `key_frames` are the numbers of pictures that decode on their own. `flat_frames` counts pictures of one colour only;
    `blank` says that all of them are. `audio_peak` is the loudest sample of the decoded sound, in 0..1; None without
    sound. `pictures_sha256` is that of all that decides on the decoded pictures: their stored bytes and their header.
    """

    frames: int
    fps: Fraction
    width: int
    height: int
    codec: str
    has_audio: bool
    audio_seconds: Fraction
    audio_peak: float | None
    bytes: int
    sha256: str
    flat_frames: int
    key_frames: tuple[int, ...] = field(repr=False)
    pictures_sha256: str = field(repr=False)

    @property
    def seconds(self) -> Fraction:
        return self.frames / self.fps

    @property
    def blank(self) -> bool:
        return self.flat_frames == self.frames

    @property
    def silent(self) -> bool:
        return self.audio_peak is not None and self.audio_peak < SILENCE_PEAK

    def as_copy_of(self, original: "Measure") -> "Measure":
        """Return these facts with what the decoding of `original` found, from which the pictures were copied.

        Raises FilmError when they are not those of `original`, byte by byte.
        """
        if self.pictures_sha256 != original.pictures_sha256:
            raise FilmError("the film has other pictures than those that were decoded")
        return replace(self, flat_frames=original.flat_frames)


def measure(
    path: Path,
    *,
    decodes_pictures: bool = True,
    frame_readers: Sequence[FrameReader] = (),
    sound_readers: Sequence[SoundReader] = (),
) -> Measure:
    """Decode every picture and all sound of the film at `path`, and return its facts.

    Without `decodes_pictures` the pictures are read and not decoded, `frame_readers` see none, and `flat_frames` is 0
    until `as_copy_of` has it from the film that the pictures were copied from.
    Whoever else needs the decoded film reads it on the way: `frame_readers` are called with each picture's number (from
    0) and its frame (of PyAV), `sound_readers` with each piece of the sound, float32 [n, 2] at 48 kHz.
    Raises FilmError when it is no film, when a picture is broken, or when not every one of them can be decoded.
    """
    try:
        with av.open(str(path), format="mov", options={"protocol_whitelist": "file"}) as film:
            return _measure(film, path, decodes_pictures, frame_readers, sound_readers)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise FilmError(f"{path.name} cannot be read as a film: {error}") from error


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of the file at `path`, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _measure(
    film: Any,
    path: Path,
    decodes_pictures: bool,
    frame_readers: Sequence[FrameReader],
    sound_readers: Sequence[SoundReader],
) -> Measure:
    if not film.streams.video:
        raise FilmError(f"{path.name} has no pictures")
    video = film.streams.video[0]
    moments: list[int] = []
    keys: list[int] = []
    last_ticks = 0
    pictures = _Pictures(video, path, frame_readers)
    for packet in film.demux(video):
        if packet.size:
            keys += [len(moments)] if packet.is_keyframe else []
            moments.append(packet.pts)
            last_ticks = packet.duration
            pictures.digest.update(packet.size.to_bytes(8, "big"))
            pictures.digest.update(packet)
        if decodes_pictures:
            pictures.decode(packet)
    if not moments or (decodes_pictures and pictures.decoded != len(moments)):
        raise FilmError(f"{path.name} holds {len(moments)} pictures and {pictures.decoded} of them can be decoded")
    sound = film.streams.audio[0] if film.streams.audio else None
    return Measure(
        frames=len(moments),
        fps=_rate(moments, last_ticks, video.time_base),
        width=video.codec_context.width,
        height=video.codec_context.height,
        codec=str(video.codec_context.name),
        has_audio=sound is not None,
        audio_seconds=Fraction(sound.duration or 0) * sound.time_base if sound is not None else Fraction(0),
        audio_peak=None if sound is None else _peak(path, sound_readers),
        bytes=path.stat().st_size,
        sha256=file_sha256(path),
        flat_frames=pictures.flat,
        key_frames=tuple(keys),
        pictures_sha256=pictures.digest.hexdigest(),
    )


class _Pictures:
    """Decodes the pictures of a film, counts those that are flat, and shows each to its readers."""

    def __init__(self, video: Any, path: Path, readers: Sequence[FrameReader]) -> None:
        # Without this the decoder hides damage by guessing the missing parts of a picture.
        video.codec_context.options = {"err_detect": "explode"}
        video.thread_type = "AUTO"
        self.digest = hashlib.sha256(video.codec_context.extradata or b"")
        self.decoded = self.flat = 0
        self._path = path
        self._readers = readers

    def decode(self, packet: Any) -> None:
        """Decode a packet. Raises FilmError for a picture that is broken."""
        for frame in packet.decode():
            if frame.is_corrupt:
                raise FilmError(f"picture {self.decoded} of {self._path.name} is broken")
            self.flat += _is_flat(frame)
            for read in self._readers:
                read(self.decoded, frame)
            self.decoded += 1


def _rate(moments: Sequence[int], last_ticks: int, time_base: Fraction) -> Fraction:
    """Return frames per second: the number of pictures ÷ the time from the first one's start to the last one's end."""
    span = (max(moments) - min(moments) + last_ticks) * time_base
    if span <= 0:
        raise FilmError("the film's pictures carry no times")
    return Fraction(len(moments)) / span


def _peak(path: Path, readers: Sequence[SoundReader]) -> float:
    """Return the loudest sample of a film's sound. Raises FilmError when it cannot be decoded or is not finite."""
    peak = 0.0
    for piece in sound_pieces(path):
        # A sample that is no number stays the peak.
        peak = float(np.maximum(peak, np.abs(piece).max(initial=0.0)))
        for read_sound in readers:
            read_sound(piece)
    if not np.isfinite(peak):
        raise FilmError(f"the sound of {path.name} holds samples that are no finite numbers")
    return peak


def _is_flat(frame: Any) -> bool:
    for plane in frame.planes:
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
        if rows[::_FLAT_STRIDE, : plane.width : _FLAT_STRIDE].std() >= FLAT_DEVIATION:
            return False
    return True
