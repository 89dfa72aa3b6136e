"""Words to the database from a Celery parent, on threads of their own: the parent must never wait for a database."""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable

from sqlalchemy.orm import Session

from app.db import forget_engines, transaction

log = logging.getLogger(__name__)

# Between two tries of a word that must be heard.
AGAIN_SECONDS = 1.0


def parent_name(parent_pid: int) -> str:
    """Return the name that all children of one Celery parent share; a child adds its own process id."""
    return f"{socket.gethostname()}-{parent_pid}"


def run_in_background(
    what: str, verb: Callable[[Session, str], object], *, until_heard: bool = False
) -> threading.Thread:
    """Do `verb` with this parent's name in a transaction, on a thread of its own, and return the thread.

    Celery starts a new child on the thread that told us of the dead one, so that thread must never wait for a database.
    `until_heard` tries again each second, for as long as the parent lives.
    """
    thread = threading.Thread(target=_do, args=(what, verb, until_heard), name=what, daemon=True)
    thread.start()
    return thread


def _do(what: str, verb: Callable[[Session, str], object], until_heard: bool) -> None:
    while not _told(what, verb) and until_heard:
        time.sleep(AGAIN_SECONDS)


def _told(what: str, verb: Callable[[Session, str], object]) -> bool:
    """Try once; return whether the database heard it."""
    try:
        with transaction() as session:
            verb(session, parent_name(os.getpid()))
    except Exception as error:  # noqa: BLE001 — leases and the sweeper do the same, only later.
        log.warning("The takes of this host could not be %s: %s", what, error)
        return False
    finally:
        # The parent asks the database once in a while, so no connection of it is kept and grows old.
        forget_engines()
    return True
