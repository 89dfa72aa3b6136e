"""The small board between the step loop and the heartbeat thread: progress goes up, the wish to stop comes down."""

import io
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path

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
        """`share_done` and `share`: the part of the whole job that lay behind this take, and the part that it is."""
        super().__init__()
        self.step = 0
        self.steps = 0
        self._share_done = share_done
        self._share = share
        self._keep: Callable[[Path], None] | None = None
        self._after_first_step: Callable[[], None] | None = None
        self._stop = threading.Event()
        self._drain = threading.Event()
        # Both on the monotonic clock.
        self._fence_at = math.inf
        self._leave_at = math.inf
        self._moved_at = time.monotonic()
        self._preview: npt.NDArray[np.uint8] | None = None
        self._preview_at = 0.0

    def on_step(self, step: int, steps: int, preview: npt.NDArray[np.uint8] | None = None) -> None:
        """Note that `step` of `steps` is done; `preview` is a small RGB picture, uint8 [H, W, 3]."""
        self.step, self.steps = step, steps
        self._moved_at = time.monotonic()
        if self._after_first_step is not None:
            act, self._after_first_step = self._after_first_step, None
            act()
        if preview is not None and self._moved_at - self._preview_at > PREVIEW_PAUSE_SECONDS:
            self._preview, self._preview_at = preview, self._moved_at

    def after_first_step(self, act: Callable[[], None]) -> None:
        """Do `act` once, as soon as a step is done: the render's own words and pictures are encoded by then."""
        self._after_first_step = act

    def keep_checkpoints(self, keep: Callable[[Path], None]) -> None:
        """Let `keep` hear of each checkpoint file that is completed, on the thread that writes it."""
        self._keep = keep

    def on_checkpoint(self, path: Path) -> None:
        """Note that a checkpoint file was completed."""
        if self._keep is not None:
            self._keep(path)

    def still_alive(self) -> None:
        """Note that work outside the denoise steps (decode, encode, upload) advances."""
        self._moved_at = time.monotonic()

    def cancelled(self) -> bool:
        """Return whether the step loop must stop now: told to, at its time to leave, or when its lease is in doubt.

        The clock is looked at here, so that the fence holds even where the heartbeat thread hangs in a dead connection.
        """
        return self._stop.is_set() or self.fenced() or time.monotonic() > self._leave_at

    def stop(self) -> None:
        """Ask the step loop to stop at its next look."""
        self._stop.set()

    def fence(self, at: float) -> None:
        """Let the take work until this moment of the monotonic clock; each good heartbeat moves it on."""
        self._fence_at = at

    def fenced(self) -> bool:
        """Return whether the lease can no longer be trusted."""
        return time.monotonic() > self._fence_at

    def leave(self, at: float) -> None:
        """Let the step loop stop at this moment of the monotonic clock; the take is handed back and made elsewhere."""
        self._leave_at = at

    def drain(self) -> None:
        """Tell the worker that it must not begin anything new."""
        self._drain.set()

    def draining(self) -> bool:
        """Return whether the worker was asked to drain."""
        return self._drain.is_set()

    def seconds_still(self) -> float:
        """Return the seconds since anything advanced."""
        return time.monotonic() - self._moved_at

    def percent(self) -> int:
        """Return the job's progress in percent, never 100: only the settled job is complete."""
        part = self.step / self.steps if self.steps else 0.0
        return min(99, int(100 * (self._share_done + self._share * part)))

    def preview_waiting(self) -> bool:
        """Return whether a preview has not been sent yet."""
        return self._preview is not None

    def take_preview(self) -> bytes | None:
        """Return the newest preview as JPEG, once."""
        picture, self._preview = self._preview, None
        if picture is None:
            return None
        image = Image.fromarray(picture)
        if image.width > PREVIEW_WIDTH:
            image = image.resize((PREVIEW_WIDTH, max(1, image.height * PREVIEW_WIDTH // image.width)))
        held = io.BytesIO()
        image.save(held, "JPEG", quality=70)
        return held.getvalue()
