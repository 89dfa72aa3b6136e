"""Database updates from the Celery parent, on background threads so that it never waits for a database."""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable

from sqlalchemy.orm import Session

from app.db import forget_engines, transaction
from app.settings import get_settings

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0


def parent_name(parent_pid: int) -> str:
    """Return the name that all children of one Celery parent share; a child adds its own process id.

    Process ids repeat from container to container, so the host's part must be unique among all hosts.
    """
    return f"{get_settings().worker_name or socket.gethostname()}-{parent_pid}"


def run_in_background(
    outcome: str, update: Callable[[Session, str], object], *, retry: bool = False
) -> threading.Thread:
    """Run `update` with this parent's name in a transaction on a new thread, and return the thread.

    Celery starts a new child on the thread that reports the dead one, so that thread must never wait for a database.
    `retry` tries again each second until it succeeds, for as long as the parent lives. `outcome` is for the log: what
    the takes of this host are by it.
    """
    thread = threading.Thread(target=_run, args=(outcome, update, retry), name=outcome, daemon=True)
    thread.start()
    return thread


def _run(outcome: str, update: Callable[[Session, str], object], retry: bool) -> None:
    while not _succeeds(outcome, update) and retry:
        time.sleep(RETRY_SECONDS)


def _succeeds(outcome: str, update: Callable[[Session, str], object]) -> bool:
    """Try once; return whether it was committed."""
    try:
        with transaction() as session:
            update(session, parent_name(os.getpid()))
    except Exception as error:  # noqa: BLE001 — leases and the scheduler do the same, only later.
        log.warning("The takes of this host could not be %s: %s", outcome, error)
        return False
    finally:
        # The parent needs the database only rarely, so no connection of it is kept and grows old.
        forget_engines()
    return True
