"""The meter of one take: its seconds by stage. It is stored with the take and feeds ETA and margin."""

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from time import perf_counter, thread_time
from typing import Any

STAGES = ("queue", "text", "denoise", "decode", "encode", "marks", "upload")
BUSY_STAGES = ("text", "denoise", "decode")


@dataclass
class Meter:
    """Seconds by stage, and the device's work. The engine fills text, denoise and decode; the caller the others.

    `gpu_seconds` is the time in which the device worked for the take; on a CPU that is the time of those stages.
    `cpu_seconds` are those of this process and of the encoders it waited for, by stage.
    `steps` counts denoising steps that were really computed, so a resumed take shows what it saved.
    """

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    cpu_seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    gpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    steps: int = 0
    resumed_from_step: int = 0
    text_cache_hits: int = 0
    frames: int = 0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time inside the block to a stage, also when the block raises."""
        began, cpu = perf_counter(), cpu_seconds()
        try:
            yield
        finally:
            self.add(name, perf_counter() - began)
            self.cpu_seconds[name] += cpu_seconds() - cpu

    @contextmanager
    def stage_in_background(self, name: str) -> Iterator[None]:
        """Add the time inside the block to a stage on a background thread, while another take renders.

        Its processor time is that of this thread and of the encoders that it waited for; no other stage counts it.
        """
        began, cpu = perf_counter(), _background.clock()
        try:
            yield
        finally:
            self.add(name, perf_counter() - began)
            spent = _background.clock() - cpu
            self.cpu_seconds[name] += spent
            _background.add(spent)

    def add(self, name: str, seconds: float) -> None:
        """Add seconds to a stage. Raises KeyError for an unknown stage."""
        self.seconds[name] += seconds
        if name in BUSY_STAGES:
            self.gpu_seconds += seconds

    def as_dict(self) -> dict[str, Any]:
        """Return the meter as JSON-ready values, seconds rounded to microseconds."""
        return {
            "seconds": {name: round(value, 6) for name, value in self.seconds.items()},
            "cpu_seconds": {name: round(value, 6) for name, value in self.cpu_seconds.items()},
            "gpu_seconds": round(self.gpu_seconds, 6),
            "peak_memory_bytes": self.peak_memory_bytes,
            "steps": self.steps,
            "resumed_from_step": self.resumed_from_step,
            "text_cache_hits": self.text_cache_hits,
            "frames": self.frames,
        }


class _BackgroundTime:
    """The processor seconds of this process that background stages have counted."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._lock = Lock()

    def clock(self) -> float:
        """Return the processor time of this thread and of the children that the process has waited for, in seconds."""
        return thread_time() + _used(resource.RUSAGE_CHILDREN)

    def add(self, seconds: float) -> None:
        """Count these seconds as those of a background stage."""
        with self._lock:
            self.seconds += seconds


_background = _BackgroundTime()


def cpu_seconds() -> float:
    """Return the processor time of this process and of the children it has waited for, in seconds.

    Without the seconds of background stages (`Meter.stage_in_background`), so that nothing is counted in two takes.
    """
    return _used(resource.RUSAGE_SELF) + _used(resource.RUSAGE_CHILDREN) - _background.seconds


def _used(whose: int) -> float:
    usage = resource.getrusage(whose)
    return usage.ru_utime + usage.ru_stime


def peak_host_bytes() -> int:
    """Return the largest resident memory this process ever had, in bytes (Linux counts in KiB, macOS in bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def resident_bytes() -> int:
    """Return the memory this process holds now, in bytes; where /proc is missing, the largest it ever held."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    except OSError:
        return peak_host_bytes()
