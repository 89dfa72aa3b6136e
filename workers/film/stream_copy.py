"""Copy the pictures of clips into a film, packet by packet, with a sound that is encoded on the way."""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import av

from workers.film.encoding import AUDIO_BITS, MOVFLAGS, SOUND_RATE, FilmError, ticks
from workers.film.film_index import NO_PICTURES
from workers.film.sound_file import Samples, sound_frames


class Piece(NamedTuple):
    """Packets `start` to `end` (exclusive) of the pictures of the clip at `path`."""

    path: Path
    start: int
    end: int


def copy_pieces(
    pieces: Sequence[Piece], out: Path, *, fps: Fraction, sound: Samples | None, metadata: Mapping[str, str]
) -> None:
    """Write a film (MP4, +faststart) of the pictures of `pieces`, whose clips have one header and no reordering.

    `sound`, float32 [n, 2] at 48 kHz, is encoded as AAC. `metadata` becomes tags of the file. Raises FilmError when a
    clip cannot be read or the film cannot be written.
    """
    ticks_per_second, _ = ticks(fps)
    options = {"movflags": MOVFLAGS, "video_track_timescale": str(ticks_per_second)}
    try:
        with (
            av.open(str(pieces[0].path), format="mov", options={"protocol_whitelist": "file"}) as first,
            av.open(str(out), "w", format="mp4", options=options) as film,
        ):
            film.metadata.update(metadata)
            streams = [_pictures(film.add_stream_from_template(first.streams.video[0]), pieces, fps)]
            if sound is not None:
                streams.append(_sound(film.add_stream("aac", rate=SOUND_RATE, layout="stereo"), sound))
            # In the order of their times, so that neither stream waits in memory for the other.
            for packet in heapq.merge(*streams, key=lambda packet: packet.dts * packet.time_base):
                film.mux(packet)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise FilmError(f"{out.name} cannot be written: {error}") from error


def _pictures(stream: Any, pieces: Sequence[Piece], fps: Fraction) -> Iterator[Any]:
    """Yield the packets of the pieces for a stream of the film.

    Their times are written again, frame by frame, so that no rounding of a piece's length reaches them.
    """
    ticks_per_second, ticks_per_frame = ticks(fps)
    number = 0
    for piece in pieces:
        options = {"protocol_whitelist": "file"}
        with av.open(str(piece.path), format="mov", options=options, stream_options=NO_PICTURES) as clip:
            packets = (packet for packet in clip.demux(clip.streams.video[0]) if packet.size)
            for place, packet in enumerate(packets):
                if place >= piece.end:
                    break
                if place >= piece.start:
                    packet.stream, packet.time_base = stream, Fraction(1, ticks_per_second)
                    packet.pts = packet.dts = number * ticks_per_frame
                    packet.duration = ticks_per_frame
                    number += 1
                    yield packet


def _sound(stream: Any, samples: Samples) -> Iterator[Any]:
    stream.bit_rate = AUDIO_BITS
    for frame in chain(sound_frames(samples), (None,)):
        yield from stream.encode(frame)
