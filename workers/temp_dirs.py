"""Temporary folders of this worker process, named after it, so that those of killed processes can be removed."""

import os
import shutil
import socket
import tempfile
from pathlib import Path

from app.dispatch.worker_registry import is_alive


def make_temp_dir(kind: str) -> tempfile.TemporaryDirectory[str]:
    """Return a new temporary folder, removed at the end of its block; its name contains `kind`."""
    return tempfile.TemporaryDirectory(prefix=f"{_prefix()}{os.getpid()}-{kind}-")


def beats_folder(parent_pid: int) -> Path:
    """Return the folder in which the child processes of this parent keep their beat files; it need not exist."""
    return Path(tempfile.gettempdir()) / f"{_prefix()}{parent_pid}-beats"


def remove_stale_temp_dirs() -> int:
    """Remove the folders of worker processes of this host that no longer exist. Returns how many.

    A child that was killed cannot remove its own, and clips are large; a worker removes them when it starts.
    """
    removed = 0
    for folder in Path(tempfile.gettempdir()).glob(f"{_prefix()}*"):
        pid = folder.name.removeprefix(_prefix()).partition("-")[0]
        if pid.isdigit() and not is_alive(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)
            removed += 1
    return removed


def _prefix() -> str:
    # Machines and containers may share a folder for temporary files, and each has its own process ids.
    return f"cinemeter-{socket.gethostname()}-"
