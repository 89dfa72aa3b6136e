"""The side thread of a take: it renews the lease while steps advance, sends progress up, and brings orders down."""

import contextvars
import logging
import threading
import time
from types import TracebackType

from app import progress
from app.clock import local_now
from app.db import transaction
from app.dispatch.claim import Claim
from app.dispatch.lease import LeaseLost, renew_lease
from app.settings import get_settings
from workers.render_control import TakeControl

log = logging.getLogger(__name__)

# How often the thread looks; a cancel or a step is noticed within this many seconds.
TICK_SECONDS = 0.5
# A worker gives up by itself when this share of its lease has passed without a good beat.
FENCE_SHARE = 0.75


class Heartbeat:
    """Renews a take's lease from a side thread for as long as the block runs.

    The step loop only reads `control`: it stops when the lease is lost, when the job was cancelled, and when no beat
    has come through for three quarters of the lease (self-fencing on the monotonic clock, so that a worker that was
    frozen stops before another one is given its work). A beat is sent only while steps advance: a hung GPU call
    therefore loses its lease.
    """

    def __init__(self, claim: Claim, control: TakeControl) -> None:
        self.claim = claim
        self.control = control
        self._lost = False
        self._done = threading.Event()
        # The thread logs under the take's ids, too.
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run,), name="heartbeat", daemon=True)
        self._told: tuple[int, int] = (-1, -1)
        self._fence_seconds = get_settings().lease_seconds * FENCE_SHARE

    @property
    def lost(self) -> bool:
        """Whether the lease is gone or can no longer be trusted: what the take made must be discarded."""
        return self._lost or self.control.fenced()

    def __enter__(self) -> "Heartbeat":
        self.control.fence(time.monotonic() + self._fence_seconds)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.rest()

    def rest(self) -> None:
        """Beat no more: the take is about to be ended, and the lease that is left outlasts that transaction."""
        self._done.set()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        settings = get_settings()
        last_good = time.monotonic()
        while not self._done.wait(TICK_SECONDS):
            began = time.monotonic()
            elapsed = began - last_good
            if self.control.fenced():
                self._lose("no beat came through in time")
                return
            moved = self._moved()
            if not moved and elapsed < min(settings.heartbeat_seconds, settings.lease_seconds / 4):
                continue
            if self.control.seconds_still() > settings.stall_seconds:
                log.error(
                    "Take %s has not advanced for %s s; its lease is left to run out.",
                    self.claim.take_id,
                    settings.stall_seconds,
                )
                continue
            try:
                self._beat()
                # Counted from before the beat: its answer may have been long on the way.
                last_good = began
                self.control.fence(began + self._fence_seconds)
            except LeaseLost:
                self._lose("the lease is gone")
                return
            except Exception as error:  # noqa: BLE001 — the database may be away for a moment; the fence above decides.
                log.warning("The beat of take %s failed: %s", self.claim.take_id, error)

    def _moved(self) -> bool:
        return (self.control.step, self.control.steps) != self._told or self.control.preview_waiting()

    def _beat(self) -> None:
        step, steps = self.control.step, self.control.steps
        with transaction() as session:
            orders = renew_lease(session, self.claim, step=step, steps=steps, percent=self.control.percent())
        self._told = (step, steps)
        progress.publish(
            self.claim.job_id,
            {
                "type": "progress",
                "take": self.claim.take_id,
                "step": step,
                "steps": steps,
                "progress": self.control.percent(),
                "at": local_now().timestamp(),
            },
            preview_jpeg=self.control.take_preview(),
        )
        if orders.drain:
            self.control.drain()
        if orders.leave_in is not None:
            self.control.leave(time.monotonic() + orders.leave_in)

    def _lose(self, reason: str) -> None:
        log.warning("Take %s stops: %s.", self.claim.take_id, reason)
        self._lost = True
        self.control.stop()
