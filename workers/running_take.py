"""One take from its claim to its end: open, render, upload, commit. Segments and finishes share this order."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from app.db import transaction
from app.dispatch.claim import Claim
from app.dispatch.lease import CHECK_FAILED, STORAGE_FAILED, LeaseLost, fail_take, release_take
from app.storage import StorageError
from workers.commit_retry import commit_with_retry
from workers.engine import BadFrames, BadSound, DoesNotFit, EnginePoisoned, ModelRefused, Stopped
from workers.film.encoding import FilmError
from workers.heartbeat import Heartbeat
from workers.output_check import StoppedFilm, UncheckedFilm
from workers.render_control import TakeControl
from workers.temp_dirs import make_temp_dir
from workers.upload_stage import UploadStage

log = logging.getLogger(__name__)


class RunningTake(ABC):
    """A running take. Its stages run in this order: `open`, `render`, `upload`, `commit_take`.

    The render thread opens and renders; the upload stage's thread may upload and commit. At any moment one thread owns
    the take. Its lease is renewed throughout, and it ends exactly once, whichever stage ends it.
    """

    # The take's temporary folder, from `open` to the end.
    folder: Path

    def __init__(self, claim: Claim, control: TakeControl) -> None:
        """Nothing starts before `run`."""
        self.claim = claim
        self.control = control
        # What must be undone at the end, whoever ends the take: an encoder, an upload, the folder.
        self.cleanup = ExitStack()
        self._heartbeat = Heartbeat(claim, control)
        self._has_ended = False

    def run(self, uploads: UploadStage | None = None) -> None:
        """Run all stages here, or leave `upload` and `commit_take` to the thread of `uploads` and return.

        Every error ends the take. Raises EnginePoisoned, and what the database raised while the end was written: the
        lease then runs out.
        """
        with self._ends_on_error():
            self.cleanup.enter_context(self._heartbeat)
            self.folder = Path(self.cleanup.enter_context(make_temp_dir("take")))
            self.open()
            self.render()
            if uploads is not None:
                uploads.submit(self.upload_and_commit)
                return
        if not self._has_ended:
            self.upload_and_commit()

    def upload_and_commit(self) -> None:
        """Run the last two stages of a rendered take."""
        with self._ends_on_error():
            self.control.check()
            self.upload()
        if not self._has_ended:
            self._end(self.commit_take)

    @abstractmethod
    def open(self) -> None:
        """Read what is to be made and fetch all that it needs. The heartbeat already runs, so this may take long."""

    @abstractmethod
    def render(self) -> None:
        """Make the take's files in `folder`."""

    @abstractmethod
    def upload(self) -> None:
        """Store the files under keys that hold the take's id."""

    def commit_take(self) -> None:
        """End the take as succeeded, trying again while the database is away."""
        commit_with_retry(self.claim, self.succeed, self._heartbeat)

    @abstractmethod
    def succeed(self, session: Session) -> None:
        """Write in one transaction that the take succeeded. Raises LeaseLost."""

    def save_progress(self) -> None:  # noqa: B027 — most takes have nothing to save.
        """Store how far a stopped take has come, before it is handed back."""

    def meter(self) -> dict[str, Any] | None:
        """Return what the take has used so far, as JSON, or None where nothing is known. Broken takes have a meter."""
        return None

    @contextmanager
    def _ends_on_error(self) -> Iterator[None]:
        """End the take with whatever the block raises, and raise only what concerns more than this take.

        Stopped hands it back, a lost lease discards it, an error fails it. EnginePoisoned is raised on: the process is
        unfit for the next take.
        """
        try:
            yield
        except (Stopped, LeaseLost):
            if not self._heartbeat.is_lost:
                self.save_progress()
            self._end(self._release)
        except Exception as error:
            self._log_failure(error)
            self._end(self._fail, error)
            if isinstance(error, EnginePoisoned):
                raise
        except BaseException:
            self.cleanup.close()
            raise

    def _log_failure(self, error: Exception) -> None:
        """Log why the take fails: with its traceback, unless it is what a checker says of a film, which is no fault."""
        if isinstance(error, StoppedFilm):
            log.info("The film of take %s is not delivered: %s", self.claim.take_id, error.outcome)
        elif isinstance(error, UncheckedFilm):
            log.warning("The film of take %s is checked again later: %s", self.claim.take_id, error)
        else:
            log.exception("Take %s (%s) failed", self.claim.take_id, self.claim.kind)

    def _end(self, write_end: Callable[..., None], *arguments: Exception) -> None:
        """Stop the heartbeat, write how the take ended, and clean up. Where the lease is lost, nothing is written."""
        self._has_ended = True
        self._heartbeat.stop()
        try:
            if self._heartbeat.is_lost:
                raise LeaseLost(self.claim.take_id)
            write_end(*arguments)
        except LeaseLost:
            log.warning("Take %s (%s) lost its lease; its files are discarded.", self.claim.take_id, self.claim.kind)
        finally:
            self.cleanup.close()

    def _release(self) -> None:
        with transaction() as session:
            release_take(session, self.claim, meter=self.meter())

    def _fail(self, error: Exception) -> None:
        code = failure_code(self.claim.kind, error)
        message = str(error) or type(error).__name__
        permanent = isinstance(error, ModelRefused | DoesNotFit)
        with transaction() as session:
            if isinstance(error, StoppedFilm):
                error.end(session, self.claim, meter=self.meter())
            else:
                fail_take(session, self.claim, code=code, message=message, permanent=permanent, meter=self.meter())


def failure_code(kind: str, error: Exception) -> str:
    """Return the error code of a take of this kind (`segment`, `finish`) that failed with `error`."""
    match error:
        case StorageError():
            return STORAGE_FAILED
        case UncheckedFilm():
            return CHECK_FAILED
        case _ if kind == "finish":
            return "finish_failed"
        case ModelRefused():
            return "model_refused"
        case DoesNotFit():
            return "does_not_fit"
        case BadSound():
            return "bad_sound"
        case BadFrames():
            return "bad_frames"
        case FilmError():
            return "encode_failed"
        case _:
            return "render_failed"
