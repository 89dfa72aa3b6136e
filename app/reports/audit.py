"""The audit: recompute every invariant of money and jobs from transfers, receipts and events."""

from datetime import datetime

from sqlalchemy import ColumnElement, select, text
from sqlalchemy.orm import Session

from app.audit_finding import AuditFinding
from app.jobs.tables import Job, ReceiptRow
from app.prices.audit import audit_prices
from app.reports.replay import Books, replay_row
from app.reports.seals import ALWAYS, changed_months
from app.wallet.audit import audit_wallet

# Each query returns (subject, message) of the rows that break its rule; no row means that the rule holds. `:since` is
# the moment from which on jobs that have ended are read: the months before it are sealed.
RULES: dict[str, str] = {
    "final_job_has_one_receipt": """
        SELECT j.id, 'state ' || j.state || ' with ' || count(r.job_id) || ' receipts'
        FROM jobs j LEFT JOIN receipts r ON r.job_id = j.id
        WHERE j.finished_at IS NULL OR j.finished_at >= :since
        GROUP BY j.id HAVING (j.state IN ('completed', 'failed', 'cancelled', 'expired')) <> (count(r.job_id) = 1)
    """,
    "final_job_has_no_open_hold": """
        SELECT j.id, 'state ' || j.state || ' with hold ' || coalesce(h.state, 'missing')
        FROM jobs j LEFT JOIN holds h ON h.job_id = j.id
        WHERE (j.finished_at IS NULL OR j.finished_at >= :since) AND (h.state IS NULL
            OR (h.state = 'held') = (j.state IN ('completed', 'failed', 'cancelled', 'expired')))
    """,
    "final_job_has_one_terminal_event": """
        SELECT j.id, 'state ' || j.state || ' with ' || count(e.id) || ' terminal events'
        FROM jobs j LEFT JOIN events e ON e.job_id = j.id
             AND e.type IN ('video.completed', 'video.failed', 'video.cancelled', 'video.expired')
        WHERE j.finished_at IS NULL OR j.finished_at >= :since
        GROUP BY j.id HAVING count(e.id) <> (j.state IN ('completed', 'failed', 'cancelled', 'expired'))::int
    """,
    "hold_is_of_its_job": """
        SELECT h.job_id, coalesce('holds ' || h.amount || ' of ' || h.account_id || ', the job is '
            || CASE WHEN j.test THEN 0 ELSE j.total END || ' of ' || j.account_id, 'there is no such job')
        FROM holds h LEFT JOIN jobs j ON j.id = h.job_id
        WHERE (h.resolved_at IS NULL OR h.resolved_at >= :since)
          AND (j.id IS NULL OR h.amount <> CASE WHEN j.test THEN 0 ELSE j.total END
            OR (h.account_id, h.project_id, h.key_id) IS DISTINCT FROM (j.account_id, j.project_id, j.key_id))
    """,
    "terminal_event_tells_the_receipt": """
        SELECT r.job_id, 'event ' || e.id || ' of type ' || e.type || ' says otherwise than the receipt'
        FROM receipts r JOIN events e ON e.job_id = r.job_id
             AND e.type IN ('video.completed', 'video.failed', 'video.cancelled', 'video.expired')
        WHERE r.settled_at >= :since AND (e.type <> 'video.' || r.outcome
            OR (e.body::jsonb #> '{data,receipt}') IS DISTINCT FROM r.body::jsonb)
    """,
    "reservation_follows_its_owner": """
        SELECT r.quote_id, 'is ' || r.state || ' though its quote is ' || coalesce(q.state, 'none')
            || ' and its job ' || coalesce(j.state, 'none')
        FROM reservations r LEFT JOIN quotes q ON q.id = r.quote_id
             LEFT JOIN jobs j ON j.id = coalesce(q.job_id, r.quote_id)
        WHERE (r.resolved_at IS NULL OR r.resolved_at >= :since)
          AND r.state <> CASE WHEN j.state IN ('completed', 'failed', 'cancelled', 'expired') THEN 'settled'
                              WHEN j.id IS NOT NULL OR q.state = 'open' THEN 'held' ELSE 'returned' END
    """,
    "receipt_equals_capture": """
        SELECT r.job_id, 'receipt ' || r.total || ', captured ' || coalesce(h.captured_amount, 0)
        FROM receipts r JOIN jobs j ON j.id = r.job_id LEFT JOIN holds h ON h.job_id = r.job_id
        WHERE r.settled_at >= :since AND coalesce(h.captured_amount, 0) <> CASE WHEN j.test THEN 0 ELSE r.total END
    """,
    "receipt_within_quote": """
        SELECT r.job_id, 'receipt ' || r.total || ' above quote ' || j.total
        FROM receipts r JOIN jobs j ON j.id = r.job_id WHERE r.total > j.total AND r.settled_at >= :since
    """,
    "undelivered_costs_nothing": """
        SELECT r.job_id, r.outcome || ' but charged ' || r.total
        FROM receipts r WHERE r.settled_at >= :since AND r.total > 0
          AND (r.outcome IN ('failed', 'expired') OR r.film_key IS NULL)
    """,
    "no_work_for_ended_jobs": """
        SELECT t.id, 'runs for a job that is ' || j.state
        FROM takes t JOIN jobs j ON j.id = t.job_id
        WHERE t.state = 'running' AND j.state NOT IN ('queued', 'in_progress')
    """,
    "running_unit_has_running_take": """
        SELECT u.id, 'is running without a running take'
        FROM units u WHERE u.state = 'running'
          AND NOT EXISTS (SELECT FROM takes t WHERE t.unit_id = u.id AND t.state = 'running')
    """,
    "lane_counts_its_units": """
        SELECT account_id, 'the lane of ' || model || ' in ' || pool || ' counts ' || coalesce(l.ready, 0)
            || ' ready units, there are ' || coalesce(u.ready, 0)
        FROM lanes l FULL JOIN (
            SELECT pool, class, account_id, model, count(*) AS ready
            FROM units WHERE state = 'ready' GROUP BY pool, class, account_id, model
        ) u USING (pool, class, account_id, model)
        WHERE l.ready IS DISTINCT FROM u.ready
    """,
    "redeemed_quote_has_its_job": """
        SELECT q.id, 'is redeemed by ' || q.job_id || ', which does not hold it'
        FROM quotes q LEFT JOIN jobs j ON j.id = q.job_id AND j.quote_id = q.id
        WHERE q.state = 'redeemed' AND q.expires_at >= :since AND j.id IS NULL
    """,
}


def audit_books(session: Session) -> list[AuditFinding]:
    """Return every row that breaks a rule: wallets, prices, jobs, receipts, events, and the replay of all receipts.

    Sealed months are read again like all others, and must say what they said when they were sealed.
    """
    return [*audit_rules(session, ALWAYS), *changed_months(session), *replay_receipts(session)]


def audit_rules(session: Session, since: datetime) -> list[AuditFinding]:
    """Return what breaks a rule. Wallets and budgets are sums of their whole life; jobs are read from `since` on."""
    findings = [*audit_wallet(session), *audit_prices(session)]
    for rule, query in RULES.items():
        facts = {"since": since} if ":since" in query else {}
        findings += [
            AuditFinding(rule, str(subject), str(message)) for subject, message in session.execute(text(query), facts)
        ]
    return findings


def replay_receipts(session: Session, *conditions: ColumnElement[bool]) -> list[AuditFinding]:
    """Compute every receipt of these conditions again from its recorded inputs, and compare the bytes."""
    findings, books = [], Books(session)
    rows = select(ReceiptRow, Job).join(Job, Job.id == ReceiptRow.job_id).where(*conditions)
    for part in session.execute(rows.execution_options(yield_per=500)).partitions():
        for row, _job in part:
            problem = replay_row(session, row, books)
            if problem is not None:
                findings.append(AuditFinding("receipt_replays", row.job_id, problem))
    return findings
