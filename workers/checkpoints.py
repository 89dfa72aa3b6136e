"""Where the checkpoints of units are kept: on this machine, and in storage for a retry on another one."""

import logging
import shutil
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

from sqlalchemy import select

from app.db import transaction
from app.dispatch.claim import Claim
from app.dispatch.lease import LeaseLost, keep_checkpoint
from app.jobs.queue_tables import Unit
from app.jobs.states import UnitState
from app.settings import get_settings
from app.storage import get_storage
from workers.temp_dirs import make_temp_dir

log = logging.getLogger(__name__)


def checkpoint_folder(unit_id: str) -> Path:
    """Return the folder where a unit's checkpoints are kept on this machine, for a retry to resume from."""
    return get_settings().home.absolute() / "checkpoints" / unit_id


def forget_checkpoints(unit_id: str) -> None:
    """Remove a unit's checkpoints from this machine: its segment is done."""
    shutil.rmtree(checkpoint_folder(unit_id), ignore_errors=True)


def remove_stale_checkpoints() -> int:
    """Remove the checkpoints of units that nobody will render any more. Returns the number of those units.

    A segment that was finished on another machine, or whose job was cancelled, leaves its checkpoints here; a worker
    removes them when it starts.
    """
    root = get_settings().home.absolute() / "checkpoints"
    unit_ids = {folder.name for folder in root.iterdir()} if root.is_dir() else set()
    if not unit_ids:
        return 0
    ended = (UnitState.DONE, UnitState.DROPPED)
    with transaction() as session:
        unfinished = select(Unit.id).where(Unit.id.in_(unit_ids), Unit.state.not_in(ended))
        stale = unit_ids - set(session.scalars(unfinished))
    for unit_id in stale:
        forget_checkpoints(unit_id)
    return len(stale)


def fetch_checkpoint(key: str, path: Path) -> bool:
    """Fetch the checkpoint stored under `key` to `path`, unless the file that is there has gone further.

    Returns whether it was fetched. A missing checkpoint costs time, never the take.
    """
    from workers.engine.checkpoint import steps_done  # torch is needed only for models that keep checkpoints

    try:
        with make_temp_dir("checkpoint") as folder:
            fetched = Path(folder) / "checkpoint"
            get_storage().get_file(key, fetched)
            if steps_done(fetched) <= steps_done(path):
                return False
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(fetched, path)
            return True
    except Exception as error:  # noqa: BLE001 — stores fail in many ways, and each means: render from the beginning.
        log.warning("The checkpoint %s could not be fetched: %s", key, error)
        return False


class CheckpointUploader:
    """Stores the newest checkpoint of one take while it renders, for a worker on any machine.

    One upload at a time: of what is written meanwhile only the newest is stored. The unit's row names the file once it
    is stored, and only while this take has the lease.
    """

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.key = f"takes/{claim.job_id}/{claim.take_id}/checkpoint.safetensors"
        self._is_recorded = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint-upload")
        self._upload: Future[None] | None = None
        self._skipped: Path | None = None

    def offer(self, path: Path) -> None:
        """Store the checkpoint at `path`, unless an upload is running."""
        if self._upload is None or self._upload.done():
            self._upload, self._skipped = self._thread.submit(self._store, path), None
        else:
            self._skipped = path

    def flush(self) -> None:
        """Wait until the newest checkpoint is stored: a retry then repeats no step."""
        if self._upload is not None:
            wait([self._upload])
        if self._skipped is not None:
            self._store(self._skipped)
            self._skipped = None

    def close(self) -> None:
        """Wait for the running upload and end the thread."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _store(self, path: Path) -> None:
        try:
            with tempfile.TemporaryDirectory(prefix=".keep-", dir=path.parent) as folder:
                # The next checkpoint replaces this file while it is being read; its own hard link stays the same.
                link = Path(folder) / "checkpoint"
                link.hardlink_to(path)
                get_storage().put_file(self.key, link, "application/octet-stream")
            if not self._is_recorded:
                with transaction() as session:
                    keep_checkpoint(session, self.claim, self.key)
                self._is_recorded = True
        except LeaseLost:
            log.info("Take %s lost its lease; its checkpoint is not recorded.", self.claim.take_id)
        except Exception as error:  # noqa: BLE001 — without it a retry elsewhere begins anew; that is all.
            log.warning("The checkpoint of take %s could not be stored: %s", self.claim.take_id, error)
