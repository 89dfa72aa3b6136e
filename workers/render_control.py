"""Shared state of a take's step loop and its heartbeat thread: progress and previews out, the request to stop in."""

import io
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
from PIL import Image

from workers.engine.request import EngineControl as EngineControl

# Previews are for watching, not for keeping: small, and at most one a second.
PREVIEW_WIDTH = 320
# Part of a job's progress that its segments have together; the rest is for joining them.
RENDERING_SHARE = 0.9
PREVIEW_PAUSE_SECONDS = 1.0
# Seconds in which a take that was told to stop must return, or twice its longest step if that is longer.
RETURN_SECONDS = 5.0


class TakeControl(EngineControl):
    """What a take's two threads share. The step loop calls `on_step` and reads `cancelled`; it never waits here."""

    def __init__(self, *, share_done: float = 0.0, share: float = 1.0) -> None:
        super().__init__()
        self.step = 0
        self.steps = 0
        self.set_share(share_done, share)
        self._stop = threading.Event()
        # Both on the monotonic clock.
        self._fence_at = math.inf
        self._stop_at = math.inf
        self._progress_at = time.monotonic()
        # The longest pause between two marks of progress since the second step; None while that says nothing.
        self._longest_pause: float | None = None
        # Set while a model is loaded, which may take longer than any step.
        self.is_loading = False
        self._preview: npt.NDArray[np.uint8] | None = None
        self._preview_at = 0.0

    def set_share(self, share_done: float, share: float) -> None:
        """Set the part of the whole job that was done before this take, and the part that this take is."""
        self._share_done, self._share = share_done, share

    def on_step(self, step: int, steps: int, preview: npt.NDArray[np.uint8] | None = None) -> None:
        """Record that `step` of `steps` is done; `preview` is a small RGB picture, uint8 [H, W, 3]."""
        self.step, self.steps = step, steps
        pause = self.mark_progress()
        if self._longest_pause is None and step > 1:
            self._longest_pause = pause
        if preview is not None and self._progress_at - self._preview_at > PREVIEW_PAUSE_SECONDS:
            self._preview, self._preview_at = preview, self._progress_at

    def mark_progress(self) -> float:
        """Record that work advances, also outside the denoising steps (decode, encode, upload).

        Returns the seconds since the last progress.
        """
        moment = time.monotonic()
        pause, self._progress_at = moment - self._progress_at, moment
        if self._longest_pause is not None:
            self._longest_pause = max(self._longest_pause, pause)
        return pause

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Let the block take as long as a model needs to be loaded, without progress."""
        self.is_loading = True
        try:
            yield
        finally:
            self.is_loading = False
            self.mark_progress()

    def forget_pace(self) -> None:
        """Record that what follows waits for other systems, so that the pauses between steps say nothing about it."""
        self._longest_pause = None

    def cancelled(self) -> bool:
        """Return whether the step loop must stop now: on request, at its time to leave, or when its lease is in doubt.

        The clock is read here, so that the fence holds even where the heartbeat thread hangs in a dead connection.
        """
        return self._stop.is_set() or self.is_fenced() or time.monotonic() > self._stop_at

    def stop(self) -> None:
        """Ask the step loop to stop at its next check."""
        self._stop.set()

    def fence_at(self, at: float) -> None:
        """Let the take work until this moment of the monotonic clock; each renewed lease moves it on."""
        self._fence_at = at

    def is_fenced(self) -> bool:
        """Return whether the lease can no longer be trusted."""
        return self.seconds_since_fence() > 0

    def seconds_since_fence(self) -> float:
        """Return the seconds for which the lease can no longer be trusted; negative while it can."""
        return time.monotonic() - self._fence_at

    def seconds_to_return(self) -> float:
        """Return how long a take that was told to stop may go on, in seconds.

        Without known steps (loading, text, uploads, a finish) only the limit of a stalled take ends it.
        """
        return math.inf if self._longest_pause is None else max(RETURN_SECONDS, 2 * self._longest_pause)

    def stop_at(self, at: float) -> None:
        """Stop the step loop at this moment of the monotonic clock; the take is handed back and made elsewhere."""
        self._stop_at = at

    def seconds_since_progress(self) -> float:
        """Return the seconds since anything advanced."""
        return time.monotonic() - self._progress_at

    def percent(self) -> int:
        """Return the job's progress in percent, never 100: only the settled job is complete."""
        part = self.step / self.steps if self.steps else 0.0
        return min(99, int(100 * (self._share_done + self._share * part)))

    def has_preview(self) -> bool:
        """Return whether there is a preview that has not been published."""
        return self._preview is not None

    def pop_preview(self) -> bytes | None:
        """Return the newest preview as JPEG, once."""
        picture, self._preview = self._preview, None
        if picture is None:
            return None
        image = Image.fromarray(picture)
        if image.width > PREVIEW_WIDTH:
            image = image.resize((PREVIEW_WIDTH, max(1, image.height * PREVIEW_WIDTH // image.width)))
        jpeg = io.BytesIO()
        image.save(jpeg, "JPEG", quality=70)
        return jpeg.getvalue()
