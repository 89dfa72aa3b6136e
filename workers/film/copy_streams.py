"""Copy a film's streams into a file with other tags, and compare the streams of two films, packet by packet."""

import hashlib
import struct
from collections.abc import Mapping
from pathlib import Path

import av
import ffmpeg

from workers.film.encoding import FilmError, tags
from workers.film.ffmpeg import run

# It copies at disk speed; this limit only ends a process that hangs.
_SECONDS_MAX = 900.0
_OPTIONS = {"protocol_whitelist": "file"}


def copy_with_tags(film: Path, out: Path, metadata: Mapping[str, str]) -> None:
    """Write a film (MP4) to `out` with these tags alone: no manifest, and nothing is encoded again.

    Raises FilmError, also where a packet of the copy is not what it was.
    """
    ticks_per_second = _ticks_per_second(film)
    options = tags(metadata) | {
        "f": "mp4",
        "c": "copy",
        "video_track_timescale": ticks_per_second,
        "movflags": "+faststart+use_metadata_tags",
        "map_metadata": -1,
    }
    source = ffmpeg.input(str(film), f="mov", **_OPTIONS)
    run(ffmpeg.output(source, str(out), **options), seconds_max=_SECONDS_MAX)
    if packets_digest(out) != packets_digest(film):
        raise FilmError(f"the streams of {film.name} cannot be copied as they are")


def packets_digest(path: Path) -> str:
    """Return a SHA-256 over the packets of a film with their times, and over its decoders' headers.

    Raises FilmError for a file that is no film.
    """
    digest = hashlib.sha256()
    try:
        with av.open(str(path), format="mov", options=_OPTIONS) as film:
            for stream in film.streams:
                digest.update(f"{stream.index} {stream.type} {stream.time_base} {stream.codec_context.name}".encode())
                digest.update(stream.codec_context.extradata or b"")
            for packet in film.demux():
                if packet.size:
                    digest.update(struct.pack(">qqqqq", packet.stream_index, *_times(packet), packet.size))
                    digest.update(bytes(packet))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise FilmError(f"{path.name} cannot be read as a film: {error}") from error
    return digest.hexdigest()


def _times(packet: av.Packet) -> tuple[int, int, int]:
    """Return the times of a packet in ticks; some packets of sound have no end."""
    return packet.pts or 0, packet.dts or 0, packet.duration or 0


def _ticks_per_second(path: Path) -> int:
    try:
        with av.open(str(path), format="mov", options=_OPTIONS) as film:
            if not film.streams.video:
                raise FilmError(f"{path.name} has no pictures")
            time_base = film.streams.video[0].time_base
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise FilmError(f"{path.name} cannot be read as a film: {error}") from error
    return int(1 / time_base) if time_base else 0
