"""The last word about a take that succeeded: a connection that drops just then must not throw the render away."""

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

log = logging.getLogger(__name__)

AGAIN_SECONDS = 1.0


def commit_with_retry(claim: Claim, verb: Callable[[Session], object], is_lost: Callable[[], bool]) -> None:
    """Do `verb`, which ends the take as succeeded, in a transaction; try again while the database is away.

    It is given up when `is_lost` says that the lease can no longer be trusted. A commit whose answer was lost has ended
    the take: the next try is refused, and that is no failure. Raises LeaseLost, and what the database raised last.
    """
    is_repeated = False
    while True:
        try:
            with transaction() as session:
                verb(session)
            return
        except LeaseLost:
            if is_repeated and _has_succeeded(claim):
                return
            raise
        except (OperationalError, InterfaceError) as error:
            if is_lost():
                raise
            is_repeated = True
            log.warning("Take %s could not be ended, and is tried again: %s", claim.take_id, error)
            time.sleep(AGAIN_SECONDS)


def _has_succeeded(claim: Claim) -> bool:
    with transaction() as session:
        return session.get_one(Take, claim.take_id).state == TakeState.SUCCEEDED
