"""Leader election by a lease in the database: one scheduler leads; a standby takes over when the lease expires."""

import logging
import math
import socket
import time
from datetime import timedelta

from sqlalchemy import or_, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.clock import lease_now
from app.db import new_id, transaction
from app.dispatch.tables import Leader

log = logging.getLogger(__name__)

LEASE_SECONDS = 10
LOCK_SECONDS = 2


class LeadershipLost(Exception):
    """Another process has become the leader."""


class Leadership:
    """One process's lease to lead in a role. The term grows with each change of leader and fences the old one."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.holder = f"{socket.gethostname()}:{new_id('leader')}"
        self.term: int | None = None
        self._renewed_at = -math.inf  # on the monotonic clock

    def keep(self) -> bool:
        """Renew the lease where a third of it has passed. Returns whether this process still leads."""
        if time.monotonic() - self._renewed_at < LEASE_SECONDS / 3:
            return self.term is not None
        return self.acquire()

    def acquire(self) -> bool:
        """Acquire or renew the lease. Returns whether this process leads."""
        began = time.monotonic()
        with transaction() as session:
            # A leader that froze inside a repair still holds its row in share mode. The standby must not hang with it:
            # it tries again in a second, until the database has ended the frozen transaction.
            session.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
            moment = lease_now(session)
            until = moment + timedelta(seconds=LEASE_SECONDS)
            session.execute(
                insert(Leader)
                .values(role=self.role, holder=self.holder, term=1, lease_until=moment)
                .on_conflict_do_nothing()
            )
            mine = session.execute(
                update(Leader)
                .where(Leader.role == self.role, Leader.holder == self.holder)
                .values(lease_until=until)
                .returning(Leader.term)
            ).one_or_none()
            if mine is None:
                mine = session.execute(
                    update(Leader)
                    .where(Leader.role == self.role, or_(Leader.lease_until < moment, Leader.holder == ""))
                    .values(holder=self.holder, term=Leader.term + 1, lease_until=until)
                    .returning(Leader.term)
                ).one_or_none()
            term = mine.term if mine else None
        if term != self.term:
            log.info("This %s %s", self.role, f"leads, term {term}" if term else "stands by")
        self.term, self._renewed_at = term, began
        return term is not None

    def verify(self, session: Session) -> None:
        """Verify inside a transaction that this process still leads. Raises LeadershipLost."""
        row = session.get(Leader, self.role, with_for_update={"read": True}, populate_existing=True)
        if row is None or row.holder != self.holder or row.term != self.term:
            raise LeadershipLost(self.role)

    def leave(self) -> None:
        """Release the lease, so that a standby leads at once."""
        if self.term is None:
            return
        try:
            with transaction() as session:
                session.execute(
                    update(Leader).where(Leader.role == self.role, Leader.holder == self.holder).values(holder="")
                )
        except Exception:  # noqa: BLE001 — the process ends anyway, and the lease expires by itself.
            log.warning("The leader lease of %s could not be released", self.role)
