"""The watchdog of a worker process: it gives the process's beat, and ends the process when a take does not return."""

import logging
import os
import threading
from contextlib import suppress

from workers.beats import BEAT_SECONDS, Beat
from workers.heartbeat import overdue_takes
from workers.temp_dirs import beats_folder

log = logging.getLogger(__name__)

# The exit status of a process that a take hangs in.
HUNG = 71


def start_watchdog(parent_pid: int) -> None:
    """Start the watchdog on a thread that ends with this process.

    Call it once the process can answer wake-ups: before that, Celery itself limits the time of its start.
    """
    try:
        beat = Beat(beats_folder(parent_pid))
    except OSError as error:
        log.warning("This worker process has no beat file; its parent will not replace it if it stops: %s", error)
        beat = None
    threading.Thread(target=_watch, args=(beat,), name="watchdog", daemon=True).start()


def _watch(beat: Beat | None) -> None:
    pause = threading.Event()
    while not pause.wait(BEAT_SECONDS):
        if beat is not None:
            with suppress(OSError):
                beat.touch()
        for reason in overdue_takes():
            # Nothing is closed in order: whatever hangs would hang that too. The next process releases the takes.
            log.critical("%s This process ends; its parent starts a fresh one.", reason)
            os._exit(HUNG)
