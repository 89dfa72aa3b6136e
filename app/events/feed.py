"""Read an account's events by cursor: a poll that starts where the last one ended misses nothing.

Events are written by many transactions that commit in a different order, so with numbers assigned at the write a reader
could skip an event that commits late. Numbers are therefore assigned when the feed is first read past the last numbered
event: under a lock per account, to the events that are committed by then. What commits later gets a higher number.
Settlements need no lock for it, and the numbers survive a dump and restore, unlike transaction ids.
"""

from dataclasses import dataclass

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app.errors import AppError, not_found
from app.events.tables import Event

PAGE_MAX = 1_000
# Numbered events that one page looks at: a filter may leave out any number of them.
SCAN_MAX = 5_000

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('cinemeter.events.' || :account_id, 0))")
_NUMBER = text("""
    WITH fresh AS (
        SELECT id, row_number() OVER (ORDER BY occurred_at, sequence, id) AS step
        FROM events
        WHERE account_id = :account_id AND position IS NULL
        ORDER BY occurred_at, sequence, id
        LIMIT :count
    )
    UPDATE events SET position = fresh.step + (
        SELECT coalesce(max(placed.position), 0) FROM events AS placed WHERE placed.account_id = :account_id
    )
    FROM fresh WHERE events.id = fresh.id
""")


@dataclass(frozen=True)
class EventPage:
    """Events in the feed's order. The next page starts after `cursor`; `has_more` means that there may be one already.

    A page may have no events and still more: what it looked at belongs to other projects, or to the other of test and
    live. Its cursor is the last event that it looked at.
    """

    events: list[Event]
    has_more: bool
    cursor: str | None


def list_events(
    session: Session,
    account_id: str,
    *,
    test: bool = False,
    project_id: str | None = None,
    after: str | None = None,
    limit: int = 100,
) -> EventPage:
    """Return up to `limit` events after the event `after` (an id; None starts at the first one), oldest first.

    Test and live events are two feeds. With `project_id` only that project's events are returned. However much a caller
    has not read, one call numbers at most PAGE_MAX events and looks at SCAN_MAX. Reading may write (it numbers new
    events), so the caller commits. Raises AppError `not_found` for a cursor of another account, and `invalid_request`
    for a limit out of range.
    """
    if not 1 <= limit <= PAGE_MAX:
        raise AppError(
            "invalid_request", f"limit must be between 1 and {PAGE_MAX}.", field="limit", allowed=[1, PAGE_MAX]
        )
    position, numbered = _position(session, account_id, after) if after else (0, False)
    if position is None:
        # A page of the events before this one has its numbers now; the next call goes on.
        return EventPage([], True, after)
    events = _numbered(session, account_id, test, project_id, position, limit + 1)
    if len(events) <= limit and not numbered and _number_new(session, account_id):
        events = _numbered(session, account_id, test, project_id, position, limit + 1)
    if len(events) > limit:
        return EventPage(events[:limit], True, events[limit - 1].id)
    seen = _last_seen(session, account_id, position)
    more = _unnumbered(session, account_id) if seen is None else _follows(session, account_id, seen.position or 0)
    return EventPage(events, more, after if seen is None else seen.id)


def _position(session: Session, account_id: str, event_id: str) -> tuple[int | None, bool]:
    """Return the number of an event, None if it has none yet, and whether events were numbered for it."""
    event = session.scalar(select(Event).where(Event.id == event_id, Event.account_id == account_id))
    if event is None:
        raise not_found("event", event_id)
    # A webhook may have delivered the id before the feed.
    numbered = event.position is None and _number_new(session, account_id)
    if numbered:
        session.refresh(event)
    return event.position, numbered


def _numbered(
    session: Session, account_id: str, test: bool, project_id: str | None, position: int, count: int
) -> list[Event]:
    query = select(Event).where(
        Event.account_id == account_id,
        Event.position > position,
        Event.position <= position + SCAN_MAX,
        Event.test == test,
        # A test event is only for the endpoint that was tested; it may look like a fact that never happened.
        Event.type != "webhook.test",
    )
    if project_id is not None:
        query = query.where(Event.project_id == project_id)
    return list(session.scalars(query.order_by(Event.position).limit(count)))


def _last_seen(session: Session, account_id: str, position: int) -> Event | None:
    """Return the last of the events that a page after this position has looked at."""
    within = (Event.position > position, Event.position <= position + SCAN_MAX)
    query = select(Event).where(Event.account_id == account_id, *within)
    return session.scalar(query.order_by(Event.position.desc()).limit(1))


def _follows(session: Session, account_id: str, position: int) -> bool:
    """Return whether there are events after a position, with a number or without."""
    # In the order of the index: without an order PostgreSQL may read the table until it meets a row.
    later = select(Event.id).where(Event.account_id == account_id, Event.position > position)
    later = later.order_by(Event.position).limit(1)
    return session.scalar(later) is not None or _unnumbered(session, account_id)


def _unnumbered(session: Session, account_id: str) -> bool:
    waiting = select(Event.id).where(Event.account_id == account_id, Event.position.is_(None))
    return session.scalar(waiting.order_by(Event.occurred_at).limit(1)) is not None


def _number_new(session: Session, account_id: str) -> bool:
    """Number up to PAGE_MAX committed events; return whether there were any, by us or by a concurrent reader."""
    if not _unnumbered(session, account_id):
        return False
    session.execute(_LOCK, {"account_id": account_id})
    session.execute(_NUMBER, {"account_id": account_id, "count": PAGE_MAX})
    return True
