"""Open a customer's clip or sound with an allow-list of formats and codecs, and re-encode sounds."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from app.assets.limits import LIMITS, AssetLimits, RefusedError
from app.assets.probe.clip import SAMPLE_RATE, THREADS, rewrite_clip
from app.assets.sniff import Kind

_VIDEO_DECODERS = ["h264", "hevc", "vp8", "vp9", "av1", "libdav1d", "libvpx", "libvpx-vp9", "mpeg4", "prores"]
_AUDIO_DECODERS = ["aac", "mp3", "mp3float", "flac", "vorbis", "opus", "libopus", "alac", "pcm_u8", "pcm_s16le"]
_AUDIO_DECODERS += ["pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_s16be", "pcm_s24be"]
_STREAMS_MAX = 16


def rewrite_media(path: Path, folder: Path, reader: str, wanted: Kind | None) -> dict[str, Any]:
    """Re-encode the clip or sound at `path` into `folder`, as `wanted` or as its own kind. Returns its facts.

    Raises RefusedError for a file that is not allowed; libav's errors, OSError and ValueError for a damaged one.
    """
    with path.open("rb") as file, open_media(file, reader) as media:
        check_streams(media)
        video = video_of(media) if wanted != "sound" else None
        audio = media.streams.audio[0] if media.streams.audio else None
        if video is None and wanted == "clip":
            raise RefusedError("it has no pictures; a clip is needed")
        if video is None and audio is None:
            raise RefusedError("it has neither pictures nor sound")
        if audio is not None:
            _prepare(audio, _AUDIO_DECODERS)
        if video is not None:
            return rewrite_clip(media, video, audio, folder / "clip.mp4", LIMITS["clip"])
        return _rewrite_sound(media, audio, folder / "sound.flac", LIMITS["sound"])


def check_streams(media: Any) -> None:
    """Raise RefusedError for a file of more streams than are allowed."""
    if len(media.streams) > _STREAMS_MAX:
        raise RefusedError(f"it has {len(media.streams)} streams; {_STREAMS_MAX} are allowed")


def video_of(media: Any) -> Any:
    """Return the video stream of an open file, ready to be decoded, or None. Raises RefusedError for its codec."""
    cover = av.stream.Disposition.attached_pic
    video = next((stream for stream in media.streams.video if not stream.disposition & cover), None)
    if video is not None:
        _prepare(video, _VIDEO_DECODERS)
    return video


def open_media(file: Any, reader: str) -> Any:
    """Open a file with one demuxer and the listed decoders; it refers to nothing else. Raises libav's errors."""

    def open_nothing_else(url: str, *_: Any) -> Any:
        raise RefusedError("it refers to other files")

    return av.open(
        file,
        format=reader,
        io_open=open_nothing_else,
        options={
            "protocol_whitelist": "file",
            "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,wav,flac,ogg,mp3",
            "codec_whitelist": ",".join([*_VIDEO_DECODERS, *_AUDIO_DECODERS]),
            "max_pixels": str(LIMITS["clip"].pixels_max),
            "max_streams": str(4 * _STREAMS_MAX),
        },
        metadata_errors="replace",
    )


def _prepare(stream: Any, decoders: list[str]) -> None:
    context = stream.codec_context
    if context is None or context.name not in decoders:
        raise RefusedError(f"its {stream.type} is coded as {context.name if context else 'something unknown'}")
    context.thread_count = THREADS
    context.options = {"max_pixels": str(LIMITS["clip"].pixels_max)}


def _rewrite_sound(media: Any, audio: Any, out: Path, limits: AssetLimits) -> dict[str, Any]:
    """Re-encode the sound losslessly: 48 kHz, stereo, 16 bits."""
    samples = 0
    resampler = av.AudioResampler(format="s16", layout="stereo", rate=SAMPLE_RATE)
    with av.open(str(out), "w", format="flac") as sound:
        stream = sound.add_stream("flac", rate=SAMPLE_RATE, layout="stereo", format="s16")
        for piece in _pieces(media, audio, resampler):
            piece.pts, piece.time_base = samples, Fraction(1, SAMPLE_RATE)
            samples += piece.samples
            if samples > limits.seconds_max * SAMPLE_RATE:
                raise RefusedError(f"it is longer than {limits.seconds_max} seconds")
            sound.mux(stream.encode(piece))
        if samples == 0:
            raise RefusedError("it has no sound that can be decoded")
        sound.mux(stream.encode(None))
    return {
        "file": out.name,
        "kind": "sound",
        "seconds": str(Fraction(samples, SAMPLE_RATE)),
        "has_audio": True,
    }


def _pieces(media: Any, audio: Any, resampler: Any) -> Iterator[Any]:
    has_any = False
    for frame in media.decode(audio):
        frame.pts = None
        has_any = True
        yield from resampler.resample(frame)
    if has_any:
        yield from resampler.resample(None)
