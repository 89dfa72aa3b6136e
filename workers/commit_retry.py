"""Commit a successful take, retrying while the connection is down: a dropped connection must not waste a render."""

import logging
import time
from collections.abc import Callable

from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session

from app.db import transaction
from app.dispatch.claim import Claim
from app.dispatch.lease import LeaseLost
from app.jobs.queue_tables import Take
from app.jobs.states import TakeState
from workers.heartbeat import Heartbeat

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0


def commit_with_retry(claim: Claim, succeed: Callable[[Session], object], heartbeat: Heartbeat) -> None:
    """Run `succeed`, which ends the take as succeeded, in a transaction; try again while the database is away.

    Gives up when the lease can no longer be trusted. A commit whose answer was lost has ended the take: the next try
    is then refused, which is no failure. Raises LeaseLost, and the database's last error.
    """
    is_retry = False
    while True:
        try:
            with transaction() as session:
                succeed(session)
            return
        except LeaseLost:
            if is_retry and _has_succeeded(claim):
                return
            raise
        except (OperationalError, InterfaceError) as error:
            if heartbeat.is_lost:
                raise
            is_retry = True
            log.warning("Take %s could not be committed, and is tried again: %s", claim.take_id, error)
            time.sleep(RETRY_SECONDS)


def _has_succeeded(claim: Claim) -> bool:
    with transaction() as session:
        return session.get_one(Take, claim.take_id).state == TakeState.SUCCEEDED
