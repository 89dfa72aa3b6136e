"""Run ffmpeg for one finite job: the binary, a time limit, and its error message."""

import subprocess
import tempfile
from functools import lru_cache
from typing import IO, Any

import ffmpeg
import imageio_ffmpeg

from app.settings import get_settings
from workers.film.encoding import FilmError

# Never waiting for a key press.
GLOBAL_ARGS = ("-hide_banner", "-nostdin", "-nostats", "-loglevel")
STDERR_BYTES = 2000


@lru_cache(maxsize=1)
def ffmpeg_binary() -> str:
    """Return the ffmpeg to start: the configured one, else the one that imageio-ffmpeg ships."""
    return get_settings().ffmpeg or str(imageio_ffmpeg.get_ffmpeg_exe())


def command(graph: Any, *, log_level: str = "error") -> list[str]:
    """Return the command line of an ffmpeg-python output graph."""
    quiet = graph.global_args(*GLOBAL_ARGS, log_level)
    compiled: list[str] = ffmpeg.compile(quiet, cmd=ffmpeg_binary(), overwrite_output=True)
    return compiled


def run(graph: Any, *, seconds_max: float, log_level: str = "error") -> str:
    """Run `graph` to its end and return the end of ffmpeg's log.

    `seconds_max` is a wall clock; past it ffmpeg is killed. Raises FilmError with the end of ffmpeg's log.
    """
    with tempfile.TemporaryFile() as stderr:
        # Its own process session: Ctrl-C and a drain signal are for the worker to handle, not for its encoder.
        process = subprocess.Popen(
            command(graph, log_level=log_level),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
        )
        try:
            status = process.wait(seconds_max)
        except subprocess.TimeoutExpired:
            raise FilmError(f"ffmpeg was stopped after {seconds_max:g} seconds{stderr_tail(stderr)}") from None
        finally:
            kill(process)
        if status != 0:
            raise FilmError(f"ffmpeg ended with status {status}{stderr_tail(stderr)}")
        return stderr_tail(stderr)


def kill(process: subprocess.Popen[bytes]) -> None:
    """End `process` if it still runs, and wait for it, so that no child process is left."""
    if process.poll() is None:
        process.kill()
    process.wait()


def stderr_tail(stderr: IO[bytes]) -> str:
    """Return the end of ffmpeg's log as `: …`, to be appended to a sentence; empty when it wrote nothing."""
    end = stderr.seek(0, 2)
    stderr.seek(max(0, end - STDERR_BYTES))
    text = stderr.read().decode("utf-8", "replace").strip()
    return f": {text}" if text else ""
