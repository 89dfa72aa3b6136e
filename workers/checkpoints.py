"""Where this machine keeps the checkpoints of units that are being rendered, and how they leave it."""

import shutil
from pathlib import Path

from sqlalchemy import select

from app.db import transaction
from app.jobs.queue_tables import Unit
from app.jobs.states import UnitState
from app.settings import get_settings


def checkpoint_folder(unit_id: str) -> Path:
    """Return the folder where a unit's checkpoints are kept on this machine, for a retake to resume from."""
    return get_settings().home.absolute() / "checkpoints" / unit_id


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
