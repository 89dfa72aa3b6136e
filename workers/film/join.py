"""Join clips into a film: streams are copied, only the pictures inside a crossfade are encoded again."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import ffmpeg

from workers.film.encoding import AUDIO, MOVFLAGS, FilmError, h264, rate, tags, ticks
from workers.film.ffmpeg import run
from workers.film.film_index import NO_PICTURES
from workers.film.sound_file import Samples, fitted_sound, write_sound
from workers.film.soundtrack import sample_at
from workers.film.stream_copy import Piece, copy_pieces

Transition = Literal["cut", "crossfade"]

# A join copies at disk speed; these limits only end a process that hangs.
_SECONDS_MAX = 900.0


@dataclass(frozen=True)
class _Clip:
    """The facts of one clip that a join needs: its length, its time base, its header and its key frames."""

    path: Path
    frames: int
    ticks_per_second: int
    ticks_per_frame: int
    width: int
    height: int
    header: bytes
    key_frames: tuple[int, ...]

    @property
    def fps(self) -> Fraction:
        return Fraction(self.ticks_per_second, self.ticks_per_frame)


@dataclass(frozen=True)
class _Piece:
    """Frames `start` to `end` (exclusive) of a stored clip, to be copied as they are."""

    clip: _Clip
    start: int
    end: int

    def packets(self) -> Piece:
        """Return where the piece's packets are: a clip without reordering has one for each frame."""
        return Piece(self.clip.path, self.start, self.end)


def join(
    clips: Sequence[Path],
    out: Path,
    *,
    transitions: Sequence[Transition] = (),
    crossfade_frames: int = 0,
    audio: Path | Samples | None = None,
    metadata: Mapping[str, str] | None = None,
    crf: int = 18,
    preset: str = "veryfast",
) -> int:
    """Join `clips` in order into the film `out` (MP4, +faststart) and return its number of frames.

    `transitions` stands between neighbours, one fewer than clips (empty: all cuts). A crossfade overlays the last
    `crossfade_frames` of a clip over the first of the next, so each one shortens the film by that many frames.
    `audio` is used for the whole film: samples of its length, float32 [n, 2] at 48 kHz, or a sound, or a film whose
    sound is wanted, which is padded with silence or cut to that. `metadata` becomes tags of the file. Raises FilmError
    when clips do not fit together or ffmpeg fails.
    """
    transitions = transitions or ["cut"] * (len(clips) - 1)
    if not clips or len(transitions) != len(clips) - 1:
        raise FilmError(f"{len(clips)} clips cannot be joined by {len(transitions)} transitions")
    sources = [_read(path) for path in clips]
    for clip in sources[1:]:
        if (clip.width, clip.height, clip.fps) != (sources[0].width, sources[0].height, sources[0].fps):
            raise FilmError(f"{clip.path.name} differs from {sources[0].path.name} in size or frames per second")
    with tempfile.TemporaryDirectory(prefix="join-", dir=out.parent) as folder:
        pieces = _plan(sources, transitions, crossfade_frames, Path(folder), crf=crf, preset=preset)
        frames = sum(piece.end - piece.start for piece in pieces)
        partial = Path(folder) / "film.mp4"
        _copy(pieces, partial, frames=frames, audio=audio, metadata=metadata or {}, folder=Path(folder))
        shutil.move(partial, out)
    return frames


def cut(clip: Path, out: Path, *, frames: int) -> None:
    """Write the first `frames` frames of `clip` to `out` by copying. Raises FilmError when the clip is shorter."""
    source = _read(clip)
    if not 1 <= frames <= source.frames:
        raise FilmError(f"{clip.name} has {source.frames} frames; the first {frames} cannot be cut out")
    with tempfile.TemporaryDirectory(prefix="cut-", dir=out.parent) as folder:
        partial = Path(folder) / "clip.mp4"
        _copy([_Piece(source, 0, frames)], partial, frames=frames, audio=None, metadata={}, folder=Path(folder))
        shutil.move(partial, out)


def clip_frames(path: Path) -> int:
    """Return the number of frames of a clip, from its index. Raises FilmError when it is not one of ours."""
    return _read(path).frames


def _read(path: Path) -> _Clip:
    """Read a clip's index (not its pictures). Raises FilmError when it is not one of ours."""
    try:
        options = {"protocol_whitelist": "file"}
        # No picture is decoded: everything that a join needs is in the index and in the header.
        with av.open(str(path), format="mov", options=options, stream_options=NO_PICTURES) as container:
            if not container.streams.video:
                raise FilmError(f"{path.name} has no pictures")
            video = container.streams.video[0]
            # The index lists every picture without reading the pictures themselves.
            entries = [(entry.timestamp, entry.is_keyframe) for entry in video.index_entries]
            context, time_base, length = video.codec_context, video.time_base, video.duration
            header = bytes(context.extradata or b"")
            facts = context.name, is_yuv420p(header), context.has_b_frames, context.width, context.height
    except (av.error.FFmpegError, OSError) as error:
        raise FilmError(f"{path.name} cannot be read as a clip: {error}") from error
    step = length // len(entries) if entries and length else 0
    is_regular = length == step * len(entries) and all(at == number * step for number, (at, _) in enumerate(entries))
    if step < 1 or not is_regular or facts[:3] != ("h264", True, False):
        raise FilmError(f"{path.name} is not a clip of evenly spaced H.264 pictures without reordering")
    return _Clip(
        path=path,
        frames=len(entries),
        ticks_per_second=int(1 / time_base),
        ticks_per_frame=step,
        width=facts[3],
        height=facts[4],
        header=header,
        key_frames=tuple(number for number, (_, is_key) in enumerate(entries) if is_key),
    )


def is_yuv420p(header: bytes) -> bool:
    """Return whether an H.264 header (`avcC`, ISO/IEC 14496-15 §5.3.3.1) announces 8-bit pictures of 4:2:0.

    Profiles below High have nothing else; High and those above end the header with chroma format and bit depths.
    """
    if len(header) < 7 or header[0] != 1:
        return False
    baseline, main, extended = 66, 77, 88
    return header[1] in (baseline, main, extended) or header[-4:] == b"\xfd\xf8\xf8\x00"


def _plan(
    clips: Sequence[_Clip],
    transitions: Sequence[Transition],
    overlap: int,
    folder: Path,
    *,
    crf: int,
    preset: str,
) -> list[_Piece]:
    """Return the pieces that make the film, encoding the crossfades between them into `folder`."""
    faded = [kind == "crossfade" for kind in transitions]
    pieces: list[_Piece] = []
    start = 0
    for index, clip in enumerate(clips):
        fades_out = index < len(faded) and faded[index]
        end = clip.frames - overlap if fades_out else clip.frames
        if end < start or (fades_out and overlap < 1):
            raise FilmError(f"{clip.path.name} has {clip.frames} frames, too few for crossfades of {overlap}")
        if end > start:
            pieces.append(_Piece(clip, start, end))
        start = 0
        if fades_out:
            following = clips[index + 1]
            # Copying can only resume at a key frame; frames between the overlap and it are encoded along.
            last = following.frames - overlap if index + 1 < len(faded) and faded[index + 1] else following.frames
            if last < overlap:
                raise FilmError(f"{following.path.name} is too short for two crossfades of {overlap} frames")
            start = next((number for number in following.key_frames if overlap <= number <= last), last)
            path = folder / f"fade-{index}.mp4"
            _fade(clip, following, path, overlap=overlap, until=start, crf=crf, preset=preset)
            crossfade = _read(path)
            if crossfade.frames != start:
                raise FilmError(f"the crossfade into {following.path.name} has {crossfade.frames} frames, not {start}")
            pieces.append(_Piece(crossfade, 0, crossfade.frames))
    return pieces


def _fade(first: _Clip, second: _Clip, out: Path, *, overlap: int, until: int, crf: int, preset: str) -> None:
    """Encode the last `overlap` frames of `first` fading into frames 0 to `until` (exclusive) of `second`.

    Frame k of the overlap shows the second clip with weight (k + 1) / (overlap + 1): no frame is wholly one of the two.
    """
    fps = first.fps
    old = _frames_of(first, first.frames - overlap, first.frames)
    new = _frames_of(second, 0, until)
    # xfade ramps from its offset over its duration; beginning one frame early gives the first frame its share.
    faded = ffmpeg.filter(
        [old, new], "xfade", transition="fade", duration=_seconds(overlap + 1, fps), offset=_seconds(-1, fps)
    )
    graph = faded.filter("format", "yuv420p").output(str(out), **h264(fps, crf=crf, preset=preset))
    run(graph, seconds_max=_SECONDS_MAX)


def _frames_of(clip: _Clip, start: int, end: int) -> Any:
    """Return frames `start` to `end` (exclusive) of `clip` as a stream that begins at zero and keeps its exact rate."""
    # Half a frame early: the wanted frame is then the first one behind the mark, whatever rounding does.
    seek = {"ss": _seconds(Fraction(2 * start - 1, 2), clip.fps)} if start else {}
    stream = ffmpeg.input(str(clip.path), f="mov", protocol_whitelist="file", **seek).video
    return (
        stream.filter("trim", end_frame=end - start)
        .filter("fps", rate(clip.fps))
        .filter("settb", f"1/{clip.ticks_per_second}")
        .filter("setpts", f"N*{clip.ticks_per_frame}")
    )


def _copy(
    pieces: Sequence[_Piece],
    out: Path,
    *,
    frames: int,
    audio: Path | Samples | None,
    metadata: Mapping[str, str],
    folder: Path,
) -> None:
    """Copy `pieces` one after the other into `out`, with `audio` as the sound.

    Clips of one header are copied here, packet by packet. A process of ffmpeg's, which costs the film a tenth of a
    second, is needed where headers differ, as after an upgrade of the encoder while a job was running: each group of
    pictures then carries its own. So it is for a sound that is still to be decoded.
    """
    is_uniform = len({piece.clip.header for piece in pieces}) == 1
    if is_uniform and not isinstance(audio, Path):
        copy_pieces([piece.packets() for piece in pieces], out, fps=pieces[0].clip.fps, sound=audio, metadata=metadata)
        return
    if audio is not None and not isinstance(audio, Path):
        path = folder / "sound.flac"
        write_sound(path, audio)
        audio = path
    _copy_by_ffmpeg(pieces, out, frames=frames, audio=audio, metadata=metadata, folder=folder, is_uniform=is_uniform)


def _copy_by_ffmpeg(
    pieces: Sequence[_Piece],
    out: Path,
    *,
    frames: int,
    audio: Path | None,
    metadata: Mapping[str, str],
    folder: Path,
    is_uniform: bool,
) -> None:
    fps = pieces[0].clip.fps
    ticks_per_second, ticks_per_frame = ticks(fps)
    script = folder / "pieces.txt"
    script.write_text("ffconcat version 1.0\n" + "".join(_entry(piece) for piece in pieces), "utf-8")
    source = ffmpeg.input(
        str(script), f="concat", safe=0, protocol_whitelist="file", auto_convert=0 if is_uniform else 1
    )
    options: dict[str, Any] = {
        "f": "mp4",
        "c:v": "copy",
        # The timestamps are written again, frame by frame, so that no rounding of a piece's length reaches them.
        "bsf:v": f"setts=time_base=1/{ticks_per_second}:ts=N*{ticks_per_frame}:duration={ticks_per_frame}",
        "video_track_timescale": ticks_per_second,
        "movflags": MOVFLAGS,
        "map_metadata": -1,
    }
    streams = [source.video]
    if audio is not None:
        streams.append(fitted_sound(audio, sample_at(frames, fps)))
        options |= AUDIO
    options = tags(metadata) | options
    run(ffmpeg.output(*streams, str(out), **options), seconds_max=_SECONDS_MAX)


def _entry(piece: _Piece) -> str:
    """Return the concat script's lines for one piece. Marks lie half a frame early, so rounding cannot move them."""
    clip = piece.clip
    lines = ["file '" + str(clip.path.absolute()).replace("'", "'\\''") + "'"]
    if piece.start:
        lines.append(f"inpoint {_seconds(Fraction(2 * piece.start + 1, 2), clip.fps)}")
    if piece.end < clip.frames:
        lines.append(f"outpoint {_seconds(Fraction(2 * piece.end - 1, 2), clip.fps)}")
    return "\n".join(lines) + "\n"


def _seconds(frames: Fraction | int, fps: Fraction) -> str:
    """Return the time of `frames` frames in seconds, in ffmpeg's microseconds."""
    return f"{float(frames / fps):.6f}"
