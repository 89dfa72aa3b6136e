"""Sums of what the whole service charged, refunded, delivered and used, by quarter of an hour.

Midnight of every time zone lies between two quarters, so the days of any zone are exact sums of them. The leader adds
the quarters that are over, so that no overview reads the rows of the past; the rest of today is read from its rows.
"""

from datetime import datetime, timedelta

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from app.clock import now
from app.db import transaction
from app.dispatch.tables import ServiceFigures

QUARTER = timedelta(minutes=15)
# A quarter is summed an hour after its end: by then no transaction of that time is still open.
CLOSED_AFTER = timedelta(hours=1)
# What one step adds, so that a service with a long past catches up in short transactions.
STEP = timedelta(days=1)

# The figures of each quarter with rows from `:since` up to, and not including, `:until`; test jobs are left out.
# Charges count when a job is settled, refunds when they are made, GPU time when a take ends.
FIGURES = """
    SELECT starts_at, sum(charged)::bigint AS charged, sum(refunded)::bigint AS refunded, sum(films)::bigint AS films,
           sum(seconds) AS seconds, sum(gpu_seconds) AS gpu_seconds,
           CASE WHEN bool_and(gpu_cost IS NOT NULL) THEN sum(gpu_cost) END AS gpu_cost,
           sum(failed)::bigint AS failed, error_code
    FROM (
        SELECT date_bin('15 minutes', r.settled_at, '2000-01-01Z') AS starts_at, r.total AS charged, 0 AS refunded,
               1 AS films, coalesce((j.film ->> 'frames')::numeric / (j.spec ->> 'fps')::numeric, 0) AS seconds,
               0 AS gpu_seconds, 0 AS gpu_cost, (j.state = 'failed')::int AS failed,
               CASE j.state WHEN 'failed' THEN coalesce(j.error_code, 'unknown') ELSE '' END AS error_code
        FROM receipts r JOIN jobs j ON j.id = r.job_id
        WHERE NOT r.test AND r.settled_at >= :since AND r.settled_at < :until
        UNION ALL
        SELECT date_bin('15 minutes', at, '2000-01-01Z'), 0, amount, 0, 0, 0, 0, 0, ''
        FROM transfers WHERE kind = 'refund' AND at >= :since AND at < :until
        UNION ALL
        SELECT date_bin('15 minutes', t.ended_at, '2000-01-01Z'), 0, 0, 0, 0, t.gpu_seconds, t.gpu_cost, 0, ''
        FROM takes t JOIN jobs j ON j.id = t.job_id
        WHERE NOT j.test AND t.ended_at >= :since AND t.ended_at < :until
    ) AS parts GROUP BY starts_at, error_code"""
_FIRST = text("""
    SELECT date_bin('15 minutes', least((SELECT min(settled_at) FROM receipts), (SELECT min(ended_at) FROM takes),
        (SELECT min(at) FROM transfers WHERE kind = 'refund')), '2000-01-01Z')
""")
_ADD = text(f"""
    INSERT INTO service_figures
        (starts_at, charged, refunded, films, seconds, gpu_seconds, gpu_cost, failed, error_code)
    SELECT starts_at, charged, refunded, films, seconds, gpu_seconds, gpu_cost, failed, error_code
    FROM ({FIGURES}) AS figures
    ON CONFLICT DO NOTHING
""")
# The last quarter has a row even if nothing happened in it, since it says how far the sums go.
_ADD_LAST = text("""
    INSERT INTO service_figures
        (starts_at, charged, refunded, films, seconds, gpu_seconds, gpu_cost, failed, error_code)
    VALUES (:last, 0, 0, 0, 0, 0, 0, 0, '') ON CONFLICT DO NOTHING
""")


def summed_until(session: Session) -> datetime | None:
    """Return the moment up to which figures are summed, or None when none are."""
    last = session.scalar(select(func.max(ServiceFigures.starts_at)))
    return None if last is None else last + QUARTER


def add_figures(session: Session) -> int:
    """Add the figures of quarters that are over, at most those of a day. Returns how many quarters were summed."""
    since = summed_until(session) or session.scalar(_FIRST)
    if since is None:
        return 0
    closed = now(session) - CLOSED_AFTER
    quarters = min((closed - since) // QUARTER, STEP // QUARTER)
    if quarters < 1:
        return 0
    until = since + quarters * QUARTER
    session.execute(_ADD, {"since": since, "until": until})
    session.execute(_ADD_LAST, {"last": until - QUARTER})
    return quarters


def add_closed_figures() -> int:
    """Add the figures of a day of quarters in a transaction of its own. Returns how many were summed."""
    with transaction() as session:
        return add_figures(session)
