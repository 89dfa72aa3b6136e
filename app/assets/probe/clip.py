"""Re-encode a customer's clip: upright, square pixels, even sizes, constant rate, H.264 and AAC."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from app.assets.limits import FPS_MAX, AssetLimits, RefusedError

SAMPLE_RATE = 48_000
THREADS = 2
# A clip with more frames per second than this is refused.
_READ_FPS_MAX = 240
# Standard rates; cameras and editors often write values close to them.
_STANDARD_RATES = [Fraction(rate) for rate in (8, 10, 12, 15, 16, 20, 24, 25, 30, 48, 50, 60)]
_STANDARD_RATES += [Fraction(24_000, 1001), Fraction(30_000, 1001), Fraction(60_000, 1001)]


def rewrite_clip(media: Any, video: Any, audio: Any, out: Path, limits: AssetLimits) -> dict[str, Any]:
    """Re-encode the clip to `out` and return its facts. Raises RefusedError for one beyond `limits`."""
    context = video.codec_context
    if (
        not limits.side_min <= min(context.width, context.height)
        or max(context.width, context.height) > limits.side_max
    ):
        raise RefusedError(
            f"its pictures measure {context.width}x{context.height}; sides of {limits.side_min} to {limits.side_max} "
            "pixels are allowed"
        )
    fps = _output_rate(video.average_rate or video.guessed_rate)
    with av.open(str(out), "w", format="mp4", container_options={"movflags": "+faststart"}) as film:
        writer = _ClipWriter(film, fps, video, limits, has_audio=audio is not None)
        for packet in media.demux([stream for stream in (video, audio) if stream is not None]):
            for frame in packet.decode():
                if packet.stream is video:
                    writer.show(frame)
                else:
                    writer.sound(frame)
        writer.end()
    return {
        "file": out.name,
        "kind": "clip",
        "width": writer.width,
        "height": writer.height,
        "frames": writer.frames,
        "fps": str(fps),
        "seconds": str(writer.frames / fps),
        "has_audio": audio is not None,
    }


class _ClipWriter:
    """Writes pictures at a constant rate: a gap repeats the previous picture, several at one time keep the first."""

    def __init__(self, film: Any, fps: Fraction, source: Any, limits: AssetLimits, *, has_audio: bool) -> None:
        self.film, self.fps, self.limits = film, fps, limits
        self.frames = self.frames_read = 0
        self.width = self.height = 0
        self.aspect = Fraction(source.codec_context.sample_aspect_ratio or 1) or Fraction(1)
        self.frames_max = int(limits.seconds_max * fps)
        self.frames_read_max = limits.seconds_max * _READ_FPS_MAX
        self.began_at: Fraction | None = None
        self.last: Any = None
        self.video = film.add_stream("libx264", rate=fps, options={"preset": "veryfast", "crf": "16", "bf": "0"})
        self.audio: Any = film.add_stream("aac", rate=SAMPLE_RATE, layout="stereo") if has_audio else None
        self.resampler = av.AudioResampler(format="fltp", layout="stereo", rate=SAMPLE_RATE)
        self.samples = 0

    def show(self, frame: Any) -> None:
        """Write `frame` at its own time."""
        self.frames_read += 1
        if self.frames_read > self.frames_read_max:
            raise RefusedError(f"it has more than {_READ_FPS_MAX} pictures per second")
        if frame.pts is None:
            moment = Fraction(self.frames_read - 1) / self.fps
        else:
            moment = frame.pts * Fraction(frame.time_base)
        if self.began_at is None:
            self.began_at = moment
        number = round((moment - self.began_at) * self.fps)
        if number >= self.frames_max:
            raise RefusedError(f"it is longer than {self.limits.seconds_max} seconds")
        while self.last is not None and self.frames < number:
            self._write(self.last)
        if number >= self.frames:
            self.last = self._fitted(frame)
            self._write(self.last)

    def sound(self, frame: Any) -> None:
        """Write the next sound; sound beyond the maximum length is dropped."""
        if self.samples < self.limits.seconds_max * SAMPLE_RATE:
            frame.pts = None
            for piece in self.resampler.resample(frame):
                self._encode_sound(piece)

    def end(self) -> None:
        """Flush the encoders."""
        if self.frames == 0:
            raise RefusedError("it has no picture that can be decoded")
        if self.audio is not None:
            for piece in self.resampler.resample(None) if self.samples else []:
                self._encode_sound(piece)
            self.film.mux(self.audio.encode(None))
        self.film.mux(self.video.encode(None))

    def _encode_sound(self, piece: Any) -> None:
        piece.pts, piece.time_base = self.samples, Fraction(1, SAMPLE_RATE)
        self.samples += piece.samples
        self.film.mux(self.audio.encode(piece))

    def _fitted(self, frame: Any) -> Any:
        """Return `frame` upright, with square pixels, at the output size, as BT.709 4:2:0."""
        if frame.rotation % 360:
            turned = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90 % 4)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(turned), format="rgb24")
        if not self.width:
            self._choose_size(frame)
        return frame.reformat(
            self.width,
            self.height,
            "yuv420p",
            dst_colorspace="ITU709",
            dst_color_range="MPEG",
            interpolation="LANCZOS",
        )

    def _choose_size(self, frame: Any) -> None:
        width = frame.width * self.aspect
        factor = min(Fraction(1), self.limits.kept_side_max / max(width, Fraction(frame.height)))
        self.width, self.height = (max(2, 2 * round(side * factor / 2)) for side in (width, Fraction(frame.height)))
        context = self.video.codec_context
        context.width, context.height, context.pix_fmt, context.thread_count = (
            self.width,
            self.height,
            "yuv420p",
            THREADS,
        )
        context.gop_size, context.time_base = max(1, round(self.fps)), 1 / self.fps
        context.color_primaries = context.color_trc = context.colorspace = 1  # BT.709
        context.color_range = 1  # limited

    def _write(self, picture: Any) -> None:
        picture.pts, picture.time_base = self.frames, 1 / self.fps
        picture.pict_type = av.video.frame.PictureType.NONE
        self.film.mux(self.video.encode(picture))
        self.frames += 1


def _output_rate(rate: Fraction | None) -> Fraction:
    """Return the output rate of a clip: a standard one within half a percent, else an integer up to FPS_MAX."""
    if not rate or rate <= 0:
        return Fraction(24)
    nearest = min(_STANDARD_RATES, key=lambda standard: abs(standard - rate))
    if abs(nearest - rate) * 200 <= nearest:
        return nearest
    return Fraction(min(FPS_MAX, max(1, round(rate))))
