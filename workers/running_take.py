"""One attempt at a segment from its claim to its end, over the two threads that it passes through."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.db import transaction
from app.dispatch.claim import Claim
from app.dispatch.lease import STORAGE_FAILED, LeaseLost, fail_take, release_take
from app.jobs.queue_tables import Take
from app.storage import StorageError
from workers.engine import DoesNotFit, EnginePoisoned, Meter, ModelRefused, Stopped
from workers.film.encoding import FilmError
from workers.heartbeat import Heartbeat
from workers.render_control import TakeControl
from workers.segment_input import SegmentInput, read_segment_input
from workers.temp_dirs import make_temp_dir

log = logging.getLogger(__name__)

# What the row of a take that broke says; anything else is `render_failed`.
CODES: dict[type[Exception], str] = {
    ModelRefused: "model_refused",
    DoesNotFit: "does_not_fit",
    FilmError: "encode_failed",
    StorageError: STORAGE_FAILED,
}


class RunningTake:
    """A running take: its lease is renewed, it has a folder, and however it ends, it ends here and once.

    The main thread renders it and the tail's thread ends it; at any moment only one of them has it. What must be
    undone at its end (an encoder, an upload) is entered into `leaving`, whoever ends it.
    """

    def __init__(self, claim: Claim) -> None:
        """Read what is to be made and begin to beat. Nothing else of the engine or the store has been touched yet."""
        self.claim = claim
        with transaction() as session:
            self.work: SegmentInput = read_segment_input(session, claim.unit_id)
            self.waited = _waited(session, self.work, claim)
        self.has_ended = False
        # Done while the lease is still renewed: what a stopped take had reached is put where another can go on.
        self.before_giving_back: Callable[[], None] = lambda: None
        # What the render took until now, where it has begun; a take that breaks has used the GPU too.
        self.meter: Callable[[], Meter | None] = lambda: None
        self.control = TakeControl(share_done=self.work.share_done, share=self.work.share)
        self.leaving = ExitStack()
        self.folder = Path(self.leaving.enter_context(make_temp_dir("take")))
        self._heartbeat = self.leaving.enter_context(Heartbeat(claim, self.control))

    @property
    def is_lost(self) -> bool:
        """Whether the lease is gone or can no longer be trusted."""
        return self._heartbeat.lost

    @contextmanager
    def ends_on_error(self) -> Iterator[None]:
        """End the take with whatever the block raises, and raise only what concerns more than this take.

        A wish to stop gives it back, a lost lease discards it, an error fails it. EnginePoisoned is raised on: the
        process is unfit for the next one. What else is raised comes from the database, and the lease runs out.
        """
        try:
            yield
        except (Stopped, LeaseLost):
            if not self._heartbeat.lost:
                self.before_giving_back()
            self.end(self._give_back)
        except EnginePoisoned as error:
            self.end(partial(self._fail, error))
            raise
        except Exception as error:
            log.exception("Take %s broke", self.claim.take_id)
            self.end(partial(self._fail, error))
        except BaseException:
            self.close()
            raise

    def end(self, verb: Callable[[], None]) -> None:
        """Beat no more, end the take in the database with `verb`, and leave. A lost lease ends it in silence."""
        self.has_ended = True
        self._heartbeat.rest()
        try:
            if self._heartbeat.lost:
                raise LeaseLost(self.claim.take_id)
            verb()
        except LeaseLost:
            log.warning("Take %s lost its lease; what it made is discarded.", self.claim.take_id)
        finally:
            self.close()

    def close(self) -> None:
        """Undo what the attempt has entered into `leaving`; doing it again changes nothing."""
        self.leaving.close()

    def _give_back(self) -> None:
        with transaction() as session:
            release_take(session, self.claim, meter=self._metered())

    def _fail(self, error: Exception) -> None:
        code = next((code for kind, code in CODES.items() if isinstance(error, kind)), "render_failed")
        message = str(error) or type(error).__name__
        permanent = isinstance(error, ModelRefused | DoesNotFit)
        with transaction() as session:
            fail_take(session, self.claim, code=code, message=message, permanent=permanent, meter=self._metered())

    def _metered(self) -> dict[str, Any] | None:
        meter = self.meter()
        return None if meter is None else meter.as_dict()


def _waited(session: Session, work: SegmentInput, claim: Claim) -> float:
    """Return the seconds that the unit was ready before this take: since its order, its predecessor or its last take.

    The time in which a segment is blocked by the one before it is no queue, and neither is that of earlier takes.
    """
    started_at = session.get_one(Take, claim.take_id).started_at
    earlier = session.scalar(select(func.max(Take.ended_at)).where(Take.unit_id == claim.unit_id))
    previous = work.previous.done_at if work.previous is not None else None
    since = max(moment for moment in (work.unit.queued_at, previous, earlier) if moment is not None)
    return max(0.0, (started_at - since).total_seconds())
