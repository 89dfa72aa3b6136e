"""The heartbeat thread of a take: it renews the lease while steps advance, publishes progress, and relays orders."""

import contextvars
import logging
import math
import threading
import time
from types import TracebackType

from app import progress
from app.clock import local_now
from app.db import transaction
from app.dispatch.claim import Claim
from app.dispatch.lease import LeaseLost, renew_lease
from app.moderation.picture_checkers import shows_unchecked
from app.settings import get_settings
from workers.render_control import RETURN_SECONDS, TakeControl

log = logging.getLogger(__name__)

# How often the thread looks; a new step is published within this many seconds.
TICK_SECONDS = 0.5
# A worker stops by itself when this share of its lease has passed without a renewal.
FENCE_SHARE = 0.75
# A model may load for so long before its take counts as stalled; Celery gives a new process as long.
LOAD_SECONDS = 1800.0

# The heartbeats of the takes that run in this process.
_running: set["Heartbeat"] = set()


def overdue_takes() -> list[str]:
    """Return a sentence for each take of this process that should have returned by now: its process is unfit."""
    return [reason for heartbeat in tuple(_running) if (reason := heartbeat.overdue())]


class Heartbeat:
    """Renews a take's lease from a background thread for as long as the block runs.

    The step loop only reads `control`: it stops when the lease is lost, when the job was cancelled, and when no renewal
    succeeded for three quarters of the lease (self-fencing on the monotonic clock, so that a worker that was frozen
    stops before another one gets its work). The lease is renewed only while steps advance: a hung GPU call therefore
    loses its lease, and where the take does not return then, the watchdog ends the process (`overdue`).
    """

    def __init__(self, claim: Claim, control: TakeControl) -> None:
        self.claim = claim
        self.control = control
        self._lost_at = math.inf  # on the monotonic clock
        self._stopping = threading.Event()
        # The thread logs under the take's ids, too.
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run,), name="heartbeat", daemon=True)
        self._published_step: tuple[int, int] = (-1, -1)
        self._fence_seconds = get_settings().lease_seconds * FENCE_SHARE
        self._stall_seconds = get_settings().stall_seconds

    @property
    def is_lost(self) -> bool:
        """Whether the lease is gone or can no longer be trusted: what the take made must be discarded."""
        return time.monotonic() >= self._lost_at or self.control.is_fenced()

    def overdue(self) -> str | None:
        """Return why this take's process must end, or None: the take stalled, or goes on long after it lost its lease.

        It is asked by another thread than the heartbeat's, which may itself hang in a dead connection.
        """
        idle, take = self.control.seconds_since_progress(), self.claim.take_id
        if idle > self._stall_limit() + RETURN_SECONDS:
            return f"Take {take} has not advanced for {idle:.0f} s."
        lost = max(time.monotonic() - self._lost_at, self.control.seconds_since_fence())
        if lost > self.control.seconds_to_return():
            return f"Take {take} has not returned for {lost:.0f} s after it lost its lease."
        return None

    def _stall_limit(self) -> float:
        return max(self._stall_seconds, LOAD_SECONDS) if self.control.is_loading else self._stall_seconds

    def __enter__(self) -> "Heartbeat":
        self.control.fence_at(time.monotonic() + self._fence_seconds)
        _running.add(self)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop renewing: the take is about to end, and the rest of the lease outlasts that transaction."""
        self._stopping.set()
        _running.discard(self)
        if self._thread.is_alive():
            self._thread.join(timeout=30)

    def _run(self) -> None:
        settings = get_settings()
        renewed_at = time.monotonic()
        while not self._stopping.wait(TICK_SECONDS):
            began = time.monotonic()
            if self.control.is_fenced():
                self._lose("its lease could not be renewed in time")
                return
            is_due = began - renewed_at >= min(settings.heartbeat_seconds, settings.lease_seconds / 4)
            if not is_due and not self._has_news():
                continue
            if self.control.seconds_since_progress() > self._stall_limit():
                self._lose("it has not advanced for too long; its lease is left to run out")
                return
            try:
                self._renew()
                # Counted from before the renewal: its answer may have been long on the way.
                renewed_at = began
                self.control.fence_at(began + self._fence_seconds)
            except LeaseLost:
                self._lose("its lease is gone")
                return
            except Exception as error:  # noqa: BLE001 — the database may be away for a moment; the fence above decides.
                log.warning("The heartbeat of take %s failed: %s", self.claim.take_id, error)

    def _has_news(self) -> bool:
        return (self.control.step, self.control.steps) != self._published_step or self.control.has_preview()

    def _renew(self) -> None:
        step, steps = self.control.step, self.control.steps
        with transaction() as session:
            orders = renew_lease(session, self.claim, step=step, steps=steps, percent=self.control.percent())
        self._published_step = (step, steps)
        preview = self.control.pop_preview()
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
            preview_jpeg=preview if shows_unchecked() else None,
        )
        if orders.leave_in is not None:
            self.control.stop_at(time.monotonic() + orders.leave_in)

    def _lose(self, reason: str) -> None:
        log.warning("Take %s stops: %s.", self.claim.take_id, reason)
        self._lost_at = time.monotonic()
        self.control.stop()
