"""The interface of every engine: its request, the control that watches and stops a render, and the engine."""

from collections.abc import Generator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pricing.rate_key import Mode
from workers.engine.continuation import Continuation
from workers.engine.errors import Stopped
from workers.engine.meter import Meter
from workers.engine.sound import Sound

Frames = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, eq=False)
class SegmentRequest:
    """One segment to render: everything that decides its frames, and the folder for its checkpoints.

    `width` and `height` are the model's native size in pixels; `frames` counts the frames that come out, without
    those that a continuation repeats. Pictures are uint8 [H, W, 3] and videos uint8 [F, H, W, 3], both in native size.
    For `v2v` and `edit`, `video` holds the frames to change; for `extend`, those that the segment continues.
    `sound` asks for the sound of the delivered frames; no frame depends on it.
    """

    prompt: str
    width: int
    height: int
    frames: int
    fps: int
    seed: int
    steps: int
    guidance: float
    negative_prompt: str = ""
    mode: Mode = "t2v"
    first_frame: Frames | None = None
    last_frame: Frames | None = None
    video: Frames | None = None
    strength: float = 0.8
    handover: Continuation | None = None
    resolution: str = "720P"
    checkpoint_dir: Path | None = None
    key: str = ""
    sound: bool = False

    @property
    def checkpoint_path(self) -> Path | None:
        """Where the checkpoint of this segment lies, or None where none is kept."""
        if self.checkpoint_dir is None:
            return None
        return self.checkpoint_dir / f"{sha256(self.key.encode()).hexdigest()[:32]}.checkpoint"


class EngineControl:
    """Shared state of a render and the threads around it: progress out, the request to stop in.

    A caller subclasses it and overrides its two hooks. All methods are called on the rendering thread, except `stop`.
    """

    def __init__(self) -> None:
        self._stopped = False

    def on_step(self, step: int, steps: int, preview: Frames | None) -> None:
        """Called when step `step` of `steps` is done. `preview` is a small uint8 [h, w, 3] picture or None."""

    def on_checkpoint(self, path: Path) -> None:
        """Called when a checkpoint file was completed, so that it can be stored where other workers find it."""

    def stop(self) -> None:
        """Ask the render to stop; safe from any thread and from a signal handler."""
        self._stopped = True

    def cancelled(self) -> bool:
        """Whether the render shall stop. Read once per denoising step and once per decoded chunk."""
        return self._stopped

    def check(self) -> None:
        """Raise Stopped if the render shall stop."""
        if self.cancelled():
            raise Stopped("the render was stopped on request")


class Engine(Protocol):
    """A loaded video model. One render at a time; none leaves state for the next."""

    meter: Meter
    handover: Continuation | None
    sound: Sound | None

    def load(self) -> None:
        """Load weights, choose the fastest exact kernels, and record the self-test. Idempotent."""

    def prefetch(self, request: SegmentRequest) -> None:
        """Encode the text of the next render during the running one. Never required, safe from any thread.

        Does nothing before `load()`.
        """

    def render(self, request: SegmentRequest, control: EngineControl) -> Generator[Frames]:
        """Yield the segment's frames in order as uint8 chunks [f, H, W, 3], `request.frames` in all.

        Closing the generator early cleans up like its end. After the last chunk, `handover` continues into the next
        segment, `sound` is that of the delivered frames where the request asks for it, else None, and `meter` holds
        the seconds by stage; the next render begins new ones and leaves these alone.
        Raises Stopped, ModelRefused, DoesNotFit, OutOfMemory, BadFrames, BadSound, or EnginePoisoned (replace the
        process).
        """

    def close(self) -> None:
        """Release memory and threads."""
