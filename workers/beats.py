"""Beats: a worker process touches a file each second; its parent kills the process whose file has grown old.

A process that is stopped, or whose threads are all blocked, cannot end itself, and its database connection says nothing
to its parent. Files work without the database, and no clock is compared: the parent only looks whether a file changes.
"""

import fcntl
import logging
import os
import signal
import threading
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

from app.dispatch.worker_registry import is_alive
from workers.heartbeat import FENCE_SHARE

log = logging.getLogger(__name__)

BEAT_SECONDS = 1.0
# However short leases are, a busy machine may keep a healthy process from its beat for some seconds.
LATE_SECONDS_MIN = 8.0


def late_seconds(lease_seconds: float) -> float:
    """Return the seconds without a beat after which a process is replaced: its own takes are fenced by then."""
    return max(LATE_SECONDS_MIN, lease_seconds * FENCE_SHARE)


class Beat:
    """The beat file of this process, named after its id and locked for as long as the process lives."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError where the file cannot be made."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = (folder / str(os.getpid())).open("w")
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def touch(self) -> None:
        """Record that this process runs."""
        os.utime(self._file.fileno())

    def close(self) -> None:
        """Release the file: the parent takes this process for one that has ended."""
        self._file.close()


class ChildMonitor:
    """Looks at the beat files of one parent's children, and kills a child that has not touched its own for too long."""

    def __init__(self, folder: Path, *, late_seconds: float, pause_seconds: float = BEAT_SECONDS) -> None:
        self._folder = folder
        self._pause_seconds = pause_seconds
        # Counted in rounds, not in seconds: while this parent is stopped as well, no time passes for its children.
        self._rounds_max = max(2, round(late_seconds / pause_seconds))
        self._beats: dict[int, tuple[int, int]] = {}  # process id → its last beat, and the rounds since then
        self._stopped: dict[int, int] = {}  # process id without a beat yet → the rounds for which it was stopped

    def start(self) -> None:
        """Look once in every pause, on a thread that ends with this process."""
        threading.Thread(target=self._run, name="child-monitor", daemon=True).start()

    def _run(self) -> None:
        pause = threading.Event()
        while not pause.wait(self._pause_seconds):
            try:
                self.look()
            except OSError as error:
                log.warning("The beats of this host's worker processes could not be read: %s", error)

    def look(self) -> list[int]:
        """Look once at every file. Returns the ids of the processes that were killed."""
        files = {int(path.name): path for path in self._folder.glob("*") if path.name.isdigit()}
        late: list[int] = []
        for pid, path in files.items():
            beat = path.stat().st_mtime_ns
            last, rounds = self._beats.get(pid, (-1, 0))
            rounds = rounds + 1 if beat == last else 0
            self._beats[pid] = (beat, rounds)
            if rounds >= self._rounds_max:
                late.append(pid)
        self._beats = {pid: self._beats[pid] for pid in files}
        killed = [pid for pid in late if self._kill(pid, files[pid])]
        return killed + self._kill_stopped_starters(files.keys())

    def _kill_stopped_starters(self, beating: Collection[int]) -> list[int]:
        """Kill children that were stopped before their first beat: while they load, nothing else would replace them."""
        stopped = {pid for pid in _stopped_children() if pid not in beating}
        self._stopped = {pid: self._stopped.get(pid, -1) + 1 for pid in stopped}
        late = [pid for pid, rounds in self._stopped.items() if rounds >= self._rounds_max]
        for pid in late:
            log.critical("Worker process %s was stopped before its first beat and is killed.", pid)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return late

    def _kill(self, pid: int, path: Path) -> bool:
        """Kill a late child, or forget one that has ended. Returns whether it was killed."""
        is_killed = False
        with path.open() as file:
            if _is_locked(file):
                log.critical("Worker process %s has not given a beat for too long and is killed.", pid)
                # SIGKILL also ends a process that is stopped.
                os.kill(pid, signal.SIGKILL)
                is_killed = True
        if is_killed or not is_alive(pid):
            path.unlink(missing_ok=True)
        return is_killed


def _stopped_children() -> Iterator[int]:
    """Yield the ids of this process's pool children that are stopped, as Linux shows them in /proc."""
    for thread in Path("/proc/self/task").glob("*/children"):
        # Threads and children may end at any moment.
        children: list[int] = []
        with suppress(FileNotFoundError, ProcessLookupError):
            children = [int(pid) for pid in thread.read_text().split()]
        for pid in children:
            with suppress(FileNotFoundError, ProcessLookupError):
                state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
                if state in ("T", "t") and b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    yield pid


def _is_locked(file: IO[str]) -> bool:
    """Return whether the process that made this beat file lives: a process id alone may belong to another one."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    with suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_UN)
    return False
