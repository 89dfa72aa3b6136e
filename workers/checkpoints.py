"""Where this machine keeps the checkpoints of units that are being rendered, and how they leave it."""

import logging
import shutil
from pathlib import Path

from sqlalchemy import select

from app.db import transaction
from app.dispatch.claim import Claim
from app.jobs.queue_tables import Unit
from app.jobs.states import UnitState
from app.settings import get_settings
from app.storage import StorageError, get_storage

log = logging.getLogger(__name__)


def checkpoint_folder(unit_id: str) -> Path:
    """Return the folder where a unit's checkpoints are kept on this machine, for a retake to resume from."""
    return get_settings().home.absolute() / "checkpoints" / unit_id


def store_checkpoint(claim: Claim) -> str | None:
    """Put what a take had reached into storage before it is handed back. Returns its key, or None where there is none.

    Without it only this machine could go on. Storage that is away costs the progress, not the hand-back.
    """
    newest = max(
        checkpoint_folder(claim.unit_id).glob("*.checkpoint"), key=lambda file: file.stat().st_mtime, default=None
    )
    if newest is None:
        return None
    key = f"takes/{claim.job_id}/{claim.take_id}/{newest.name}"
    try:
        get_storage().put_file(key, newest, "application/octet-stream")
    except StorageError as error:
        log.warning("The checkpoint of take %s could not be stored: %s", claim.take_id, error)
        return None
    return key


def fetch_checkpoint(unit: Unit, folder: Path) -> None:
    """Make a unit's folder, and bring what another machine had reached of it, unless this one has its own.

    The engine refuses a checkpoint that is broken or of another render, so this only has to try.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if unit.checkpoint_key is None or any(folder.glob("*.checkpoint")):
        return
    try:
        get_storage().get_file(unit.checkpoint_key, folder / unit.checkpoint_key.rsplit("/", 1)[-1])
    except (StorageError, FileNotFoundError) as error:
        log.warning("The checkpoint of unit %s could not be fetched; it begins anew: %s", unit.id, error)


def forget_checkpoints(unit_id: str) -> None:
    """Remove a unit's checkpoints: its segment is whole."""
    shutil.rmtree(checkpoint_folder(unit_id), ignore_errors=True)


def sweep_checkpoints() -> int:
    """Remove the checkpoints of units that nobody will render any more. Returns of how many units.

    A segment that was finished on another machine, or whose job was cancelled, leaves its checkpoints here; a worker
    looks for them when it starts.
    """
    root = get_settings().home.absolute() / "checkpoints"
    kept = {folder.name for folder in root.iterdir()} if root.is_dir() else set()
    if not kept:
        return 0
    with transaction() as session:
        unfinished = select(Unit.id).where(Unit.id.in_(kept), Unit.state.not_in((UnitState.DONE, UnitState.DROPPED)))
        over = kept - set(session.scalars(unfinished))
    for unit_id in over:
        forget_checkpoints(unit_id)
    return len(over)
