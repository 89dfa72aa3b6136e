"""What the rows say after a run: waits by tier, promises that were missed, and the audit."""

from collections import defaultdict

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.db import allow_long, transaction
from app.reports.audit import audit_books
from tests.load.figures import spread

WAITS = text(
    """
    SELECT j.spec ->> 'service_tier' AS tier, CAST(extract(epoch FROM j.started_at - j.created_at) AS float8) AS waited
    FROM jobs AS j WHERE j.started_at IS NOT NULL
    """
)
STATES = text("SELECT state, count(*) AS jobs FROM jobs GROUP BY state ORDER BY state")
# Each is a promise; its query counts the jobs with which it was not kept, or of which that must be told.
PROMISES = {
    "jobs that have not ended": "SELECT count(*) FROM jobs WHERE finished_at IS NULL",
    "failed jobs": "SELECT count(*) FROM jobs WHERE state = 'failed'",
    "ended jobs without exactly one terminal event": """
        SELECT count(*) FROM jobs AS j WHERE finished_at IS NOT NULL AND 1 <> (
            SELECT count(*) FROM events AS e WHERE e.job_id = j.id
                AND e.type IN ('video.completed', 'video.failed', 'video.cancelled', 'video.expired'))
    """,
    "priority films that started late (surcharge dropped)": """
        SELECT count(*) FROM jobs WHERE start_by IS NOT NULL AND coalesce(started_at, finished_at) > start_by
    """,
    "flex films that expired (free)": "SELECT count(*) FROM jobs WHERE state = 'expired'",
}


def waits_by_tier(session: Session) -> dict[str, list[float]]:
    """Return the seconds from the order to the first start of each job that started, by service tier."""
    waits: dict[str, list[float]] = defaultdict(list)
    for tier, waited in session.execute(WAITS):
        waits[tier].append(waited)
    return waits


def print_outcome() -> int:
    """Print waits, promises and the audit; return how many rows the audit found wrong."""
    with transaction() as session:
        allow_long(session)
        print("jobs: " + ", ".join(f"{count} {state}" for state, count in session.execute(STATES)))
        for tier, waits in sorted(waits_by_tier(session).items()):
            print(f"wait of {tier}: {spread(waits)} ({len(waits)} jobs)")
        for promise, query in PROMISES.items():
            print(f"{promise}: {session.scalar(text(query))}")
    with transaction() as session:
        allow_long(session)
        findings = audit_books(session)
    for finding in findings[:20]:
        print(f"audit: {finding}")
    print(f"audit: {len(findings)} findings")
    return len(findings)
