"""Shared state of a take's step loop and its heartbeat thread: progress and previews out, the request to stop in."""

import io
import math
import threading
import time

import numpy as np
import numpy.typing as npt
from PIL import Image

from workers.engine.request import EngineControl as EngineControl

# Previews are for watching, not for keeping: small, and at most one a second.
PREVIEW_WIDTH = 320
PREVIEW_PAUSE_SECONDS = 1.0


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
        self._preview: npt.NDArray[np.uint8] | None = None
        self._preview_at = 0.0

    def set_share(self, share_done: float, share: float) -> None:
        """Set the part of the whole job that was done before this take, and the part that this take is."""
        self._share_done, self._share = share_done, share

    def on_step(self, step: int, steps: int, preview: npt.NDArray[np.uint8] | None = None) -> None:
        """Record that `step` of `steps` is done; `preview` is a small RGB picture, uint8 [H, W, 3]."""
        self.step, self.steps = step, steps
        self.mark_progress()
        if preview is not None and self._progress_at - self._preview_at > PREVIEW_PAUSE_SECONDS:
            self._preview, self._preview_at = preview, self._progress_at

    def mark_progress(self) -> None:
        """Record that work advances, also outside the denoising steps (decode, encode, upload)."""
        self._progress_at = time.monotonic()

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
        return time.monotonic() > self._fence_at

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
