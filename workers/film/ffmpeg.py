"""The one place that starts ffmpeg for a finite piece of work: which binary, how long, and what it said at the end."""

import subprocess
import tempfile
from functools import lru_cache
from typing import IO, Any

import ffmpeg
import imageio_ffmpeg

from app.settings import get_settings
from workers.film.encoding import FilmError

# Quiet, and never waiting for a key press.
GLOBAL_ARGS = ("-hide_banner", "-nostdin", "-loglevel", "error")
LAST_WORDS_BYTES = 2000


@lru_cache(maxsize=1)
def ffmpeg_binary() -> str:
    """Return the ffmpeg to start: the configured one, else the one that imageio-ffmpeg ships."""
    return get_settings().ffmpeg or str(imageio_ffmpeg.get_ffmpeg_exe())


def command(graph: Any) -> list[str]:
    """Return the command line of an ffmpeg-python output graph."""
    compiled: list[str] = ffmpeg.compile(graph.global_args(*GLOBAL_ARGS), cmd=ffmpeg_binary(), overwrite_output=True)
    return compiled


def run(graph: Any, *, seconds_max: float) -> None:
    """Run `graph` to its end.

    `seconds_max` is a wall clock; past it ffmpeg is killed. Raises FilmError with ffmpeg's last words.
    """
    with tempfile.TemporaryFile() as words:
        # A session of its own: Ctrl-C and a drain signal are for the worker to answer, not for its encoder.
        process = subprocess.Popen(
            command(graph), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=words, start_new_session=True
        )
        try:
            status = process.wait(seconds_max)
        except subprocess.TimeoutExpired:
            raise FilmError(f"ffmpeg was stopped after {seconds_max:g} seconds{stderr_tail(words)}") from None
        finally:
            kill(process)
        if status != 0:
            raise FilmError(f"ffmpeg ended with status {status}{stderr_tail(words)}")


def kill(process: subprocess.Popen[bytes]) -> None:
    """End `process` if it still runs, and wait for it, so that no child outlives its work."""
    if process.poll() is None:
        process.kill()
    process.wait()


def stderr_tail(words: IO[bytes]) -> str:
    """Return the end of what ffmpeg wrote, as `: …`, ready to be put behind a sentence; empty when it was silent."""
    end = words.seek(0, 2)
    words.seek(max(0, end - LAST_WORDS_BYTES))
    text = words.read().decode("utf-8", "replace").strip()
    return f": {text}" if text else ""
