"""Write a clip: uint8 pictures stream into ffmpeg's stdin while the GPU goes on."""

import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NoReturn, Self

import ffmpeg
import numpy as np
import numpy.typing as npt

from workers.film.encoding import FilmError, h264, rate, tags, to_yuv
from workers.film.ffmpeg import command, kill, stderr_tail

# How often a waiting caller checks whether ffmpeg still accepts frames, in seconds.
_POLL_SECONDS = 0.5
_PIECE_BYTES = 2**20


class ClipWriter:
    """Writes one clip of exactly `frames` frames, H.264 yuv420p, at `width` × `height` and `fps`.

    Frames come as uint8 [f, in_height, in_width, 3] and are scaled with Lanczos where the sizes differ. A feeder thread
    holds at most `waiting_bytes_max` bytes of frames, so that the caller's GPU runs on while x264 catches up, and waits
    when it cannot. Every wait ends: after `stall_seconds` without progress the writer gives up. `abort()` may be called
    from any thread. The file appears under `path` only when it is whole. `metadata` becomes tags of the file.
    """

    def __init__(
        self,
        path: Path,
        *,
        in_width: int,
        in_height: int,
        width: int,
        height: int,
        fps: Fraction,
        frames: int,
        key_frames: Sequence[int] = (),
        metadata: Mapping[str, str] | None = None,
        crf: int = 18,
        preset: str = "veryfast",
        waiting_bytes_max: int = 256 * 2**20,
        stall_seconds: float = 120.0,
    ) -> None:
        if width % 2 or height % 2 or min(width, height, in_width, in_height, frames) < 1 or fps <= 0:
            raise FilmError(f"a clip of {frames} frames at {width}x{height} and {fps} frames per second cannot be made")
        self.path = path
        self.frames = frames
        self.frames_written = 0
        self._shape = (in_height, in_width, 3)
        self._waiting_bytes_max = waiting_bytes_max
        self._stall_seconds = stall_seconds
        self._partial = path.with_name(path.name + ".partial")
        self._waiting: deque[npt.NDArray[np.uint8] | None] = deque()
        self._waiting_bytes = 0
        self._changed = threading.Condition()
        self._is_broken = False
        self._ended = False
        self._stderr_tail = ""
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        source = ffmpeg.input(
            "pipe:", format="rawvideo", pix_fmt="rgb24", video_size=(in_width, in_height), framerate=rate(fps)
        )
        options = h264(fps, crf=crf, preset=preset, key_frames=key_frames) | tags(metadata or {})
        self._process = self._start(to_yuv(source, width=width, height=height).output(str(self._partial), **options))
        self._progress_at = time.monotonic()
        self._feeder = threading.Thread(target=self._feed, name=f"clip {path.name}", daemon=True)
        self._feeder.start()

    def _start(self, graph: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command(graph),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._stderr,
            bufsize=0,
            start_new_session=True,
        )

    def write(self, chunk: npt.NDArray[np.uint8]) -> None:
        """Write the next frames, uint8 [f, in_height, in_width, 3]; the array is copied and may be reused at once.

        Raises FilmError when there are more frames than `frames`, or when ffmpeg has failed or stalled.
        """
        if chunk.dtype != np.uint8 or chunk.ndim != 4 or chunk.shape[1:] != self._shape:
            self._give_up(f"frames of shape {chunk.shape} and type {chunk.dtype} do not fit a clip of {self._shape}")
        if self.frames_written + len(chunk) > self.frames:
            self._give_up(f"the clip has {self.frames} frames and got {self.frames_written + len(chunk)}")
        self._put(np.array(chunk, order="C"))
        self.frames_written += len(chunk)

    def close(self) -> None:
        """Finish the file under its name. Raises FilmError when the count of frames differs or ffmpeg failed."""
        if self._ended:
            return
        if self.frames_written != self.frames:
            self._give_up(f"the clip has {self.frames} frames and got {self.frames_written}")
        self._put(None)
        try:
            status = self._process.wait(self._stall_seconds)
        except subprocess.TimeoutExpired:
            self._give_up(f"ffmpeg did not finish the clip within {self._stall_seconds:g} seconds")
        if status != 0:
            self._give_up(f"ffmpeg ended with status {status}")
        self._end()
        self._partial.replace(self.path)

    def abort(self) -> None:
        """Kill ffmpeg and remove what it wrote. Does nothing after the clip was closed."""
        self._end()
        self._partial.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def _put(self, chunk: npt.NDArray[np.uint8] | None) -> None:
        """Queue `chunk` for the feeder, waiting while it is full; None marks the end, and waits for all before."""
        reason = ""
        with self._changed:
            if not self._waiting:
                self._progress_at = time.monotonic()
            if chunk is None:
                self._waiting.append(None)
                self._changed.notify_all()
            while not reason and self._is_full(chunk):
                self._changed.wait(_POLL_SECONDS)
                if time.monotonic() - self._progress_at > self._stall_seconds:
                    reason = f"ffmpeg accepted no frame for {self._stall_seconds:g} seconds"
            if self._is_broken:
                reason = "ffmpeg stopped accepting frames"
            elif chunk is not None:
                self._waiting.append(chunk)
                self._waiting_bytes += chunk.nbytes
                self._changed.notify_all()
        # Outside the lock: giving up waits for the feeder, which needs it.
        if reason:
            self._give_up(reason)

    def _is_full(self, chunk: npt.NDArray[np.uint8] | None) -> bool:
        if self._is_broken:
            return False
        if chunk is None:
            return bool(self._waiting)
        return self._waiting_bytes > 0 and self._waiting_bytes + chunk.nbytes > self._waiting_bytes_max

    def _give_up(self, reason: str) -> NoReturn:
        self.abort()
        raise FilmError(reason + self._stderr_tail)

    def _end(self) -> None:
        """Stop the feeder and ffmpeg, whatever they are doing, and keep the end of its log. Safe to call twice."""
        with self._changed:
            self._is_broken = True
            self._changed.notify_all()
        kill(self._process)
        self._feeder.join()
        with self._changed:
            if not self._ended:
                self._ended = True
                self._stderr_tail = stderr_tail(self._stderr)
                self._stderr.close()

    def _feed(self) -> None:
        """Move frames from the queue into ffmpeg's stdin until the end mark or the first failure."""
        stdin = self._process.stdin
        assert stdin is not None
        try:
            while (chunk := self._next()) is not None:
                self._write_to(stdin, memoryview(chunk.data).cast("B"))
                self._release(chunk.nbytes)
        except OSError:
            # The pipe broke: ffmpeg is gone, and its log says why.
            with self._changed:
                self._is_broken = True
        finally:
            stdin.close()
            self._release(0)

    def _next(self) -> npt.NDArray[np.uint8] | None:
        with self._changed:
            while not self._waiting and not self._is_broken:
                self._changed.wait()
            return None if self._is_broken else self._waiting[0]

    def _write_to(self, stdin: IO[bytes], rest: memoryview) -> None:
        # In pieces, because a write to a pipe returns only when all is read, and progress should show before.
        while rest:
            rest = rest[stdin.write(rest[:_PIECE_BYTES]) :]
            self._progress_at = time.monotonic()

    def _release(self, size: int) -> None:
        with self._changed:
            if self._waiting:
                self._waiting.popleft()
            self._waiting_bytes -= size
            self._changed.notify_all()
