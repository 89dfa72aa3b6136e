"""The service's clock: database time, read once per transaction, plus an offset for tests and drills."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Session

from app.settings import get_settings
from app.sql_statements import SqlStatement

_NOW = "cinemeter_now"
_CLOCK = SqlStatement("SELECT clock_timestamp() AS now")


def now(session: Session) -> datetime:
    """Return the moment of this transaction (aware, UTC): the database's clock plus the configured offset.

    It is read once per transaction, so that everything one transaction writes has one time. A test that must replay
    exactly freezes the clock at `session.info['clock_at']`.
    """
    moment: datetime | None = session.info.get("clock_at") or session.info.get(_NOW)
    if moment is None:
        moment = _CLOCK.run(session, {}, flush=False).one().now.astimezone(UTC) + offset(session)
        # A clock that stands still may be set when the transaction begins, which the statement did.
        moment = session.info.get("clock_at") or moment
        session.info[_NOW] = moment
    return moment


def clock_inputs(session: Session) -> dict[str, Any]:
    """Return the parameters by which a statement reads the clock as `now` does.

    `at` is the moment of this transaction, or NULL where it is not read yet: the database's clock then, plus `shift`.
    Pass what the statement returns to `remember_now`.
    """
    return {"at": session.info.get("clock_at") or session.info.get(_NOW), "shift": offset(session)}


def remember_now(session: Session, moment: datetime) -> None:
    """Make a moment that a statement read with `clock_inputs` the moment of this transaction."""
    session.info[_NOW] = moment.astimezone(UTC)


def read_again(session: Session) -> None:
    """Make the next `now` read the clock again: for a transaction that waited for a lock and decides by the time."""
    session.info.pop(_NOW, None)


def lease_now(session: Session) -> datetime:
    """Return the moment on the clock of leases (aware, UTC): the database's, without this process's offset.

    A process whose CINEMETER_CLOCK_OFFSET_SECONDS differs from the others' would otherwise hold leases for an hour
    after its death, or lose each one at once. A test that shifts the clock of its session shifts this one too.
    """
    shift = timedelta(seconds=get_settings().clock_offset_seconds)
    return now(session) if _has_test_clock(session) else now(session) - shift


def lease_clock_input(session: Session) -> datetime | None:
    """Return the moment of `lease_now` for a statement that reads the database's clock itself where it gets NULL.

    It is NULL where this transaction has not read the clock yet.
    """
    return lease_now(session) if _has_test_clock(session) or _NOW in session.info else None


def _has_test_clock(session: Session) -> bool:
    return "clock_at" in session.info or "clock_offset" in session.info


def offset(session: Session) -> timedelta:
    """Return the shift between the database's clock and ours; `session.info['clock_offset']` wins in tests."""
    shift = session.info.get("clock_offset")
    return shift if isinstance(shift, timedelta) else timedelta(seconds=get_settings().clock_offset_seconds)


def local_now() -> datetime:
    """Return this machine's clock (aware, UTC) for log lines and token expiry where no transaction is open."""
    return datetime.now(UTC) + timedelta(seconds=get_settings().clock_offset_seconds)


@event.listens_for(Session, "after_transaction_end")
def _forget(session: Session, transaction: object) -> None:
    # Savepoints end too; only the end of the outermost transaction clears the time.
    if getattr(transaction, "parent", None) is None:
        session.info.pop(_NOW, None)
