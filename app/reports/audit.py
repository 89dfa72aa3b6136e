"""The audit: recompute every invariant of money and jobs from transfers, receipts and events."""

from datetime import datetime

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.audit_finding import AuditFinding
from app.audit_sums import ALWAYS, EVERYTHING, AuditScope
from app.dispatch.service_figures import FIGURES
from app.prices.audit import audit_prices
from app.reports.replay import replay_receipts
from app.reports.seals import (
    changed_months,
    changed_sums,
    day_digests,
    month_of,
    sealed_months,
    unsealed_since,
    wrong_sums,
)
from app.wallet.audit import audit_wallet

_SUMMED_UNTIL = "(SELECT coalesce(max(starts_at) + interval '15 minutes', :since) FROM service_figures)"
_FIGURES_TEXT = "charged, refunded, films, failed, trim_scale(seconds), trim_scale(gpu_seconds)"

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
    "job_in_review_waits_for_it": """
        SELECT j.id, 'is in review with ' || count(DISTINCT m.id) || ' open reviews and ' || count(DISTINCT u.id)
            || ' units that are ready or run'
        FROM jobs j
        LEFT JOIN moderation_outcomes m ON m.job_id = j.id AND m.outcome = 'review' AND m.decision IS NULL
        LEFT JOIN units u ON u.job_id = j.id AND u.state IN ('ready', 'running')
        WHERE j.stage = 'moderating' AND j.state IN ('queued', 'in_progress')
        GROUP BY j.id HAVING count(DISTINCT m.id) <> 1 OR count(u.id) > 0
        UNION ALL
        SELECT m.job_id, 'has the open review ' || m.id || ' and is ' || coalesce(j.state || ', ' || j.stage, 'gone')
        FROM moderation_outcomes m LEFT JOIN jobs j ON j.id = m.job_id
        WHERE m.outcome = 'review' AND m.decision IS NULL
            AND (j.id IS NULL OR j.stage <> 'moderating' OR j.finished_at IS NOT NULL)
    """,
    "group_counts_its_jobs": """
        SELECT g.id, g.size || ' jobs, ' || g.unfinished || ' unfinished; there are ' || count(j.id) || ' and '
            || count(j.id) FILTER (WHERE j.finished_at IS NULL)
        FROM job_groups g LEFT JOIN jobs j ON j.group_id = g.id
            AND (j.account_id, j.project_id, j.test) IS NOT DISTINCT FROM (g.account_id, g.project_id, g.test)
        WHERE g.finished_at IS NULL OR g.finished_at >= :since
        GROUP BY g.id HAVING count(j.id) <> g.size
            OR count(j.id) FILTER (WHERE j.finished_at IS NULL) <> g.unfinished
    """,
    "hold_is_of_its_job": """
        SELECT h.job_id, coalesce('holds ' || h.amount || ' of ' || h.account_id || ' in ' || h.month || ' from '
            || h.created_at || ' to ' || coalesce(h.resolved_at::text, 'now') || ', the job is '
            || CASE WHEN j.test THEN 0 ELSE j.total END || ' of ' || j.account_id, 'there is no such job')
        FROM holds h LEFT JOIN jobs j ON j.id = h.job_id LEFT JOIN accounts a ON a.id = j.account_id
        WHERE (h.state = 'held' OR h.resolved_at >= :since)
          AND (j.id IS NULL OR h.amount <> CASE WHEN j.test THEN 0 ELSE j.total END
            OR h.created_at <> j.created_at OR h.resolved_at IS DISTINCT FROM j.finished_at
            OR h.month <> to_char(h.created_at AT TIME ZONE a.billing_zone, 'YYYY-MM')
            OR (h.account_id, h.project_id, h.key_id) IS DISTINCT FROM (j.account_id, j.project_id, j.key_id))
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
    "capture_is_of_its_receipt": """
        SELECT t.job_id, t.reference || ' at ' || t.at || ', its receipt is of ' || coalesce(r.settled_at::text, 'none')
        FROM transfers t LEFT JOIN receipts r ON r.job_id = t.job_id
        WHERE t.kind = 'capture' AND t.at >= :since AND (r.settled_at IS DISTINCT FROM t.at
            OR t.reference <> 'capture:' || t.account_id || ':' || t.job_id)
    """,
    "receipt_is_numbered_in_its_account": """
        SELECT n.job_id, 'number ' || n.number || ' of ' || n.account_id || ', the receipt is of ' || r.account_id
        FROM receipts r JOIN receipt_numbers n ON n.job_id = r.job_id
        WHERE r.settled_at >= :since AND (n.account_id, n.test) <> (r.account_id, r.test)
    """,
    "receipt_has_a_number": """
        SELECT r.job_id, 'has no number in ' || r.account_id || ', though it is newer than such numbers'
        FROM receipts r
        WHERE r.settled_at >= :since AND r.number > (SELECT coalesce(max(older_until), 0) FROM receipt_numbering)
          AND NOT EXISTS (SELECT FROM receipt_numbers n WHERE n.job_id = r.job_id)
    """,
    "receipt_number_comes_once": """
        SELECT n.job_id, 'has the number ' || n.number || ' of ' || n.account_id || ', as the older receipt of '
            || o.job_id
        FROM receipts r JOIN receipt_numbers n ON n.job_id = r.job_id
        JOIN receipts o ON (o.number, o.account_id, o.test) = (n.number, n.account_id, n.test)
        WHERE r.settled_at >= :since AND NOT EXISTS (SELECT FROM receipt_numbers m WHERE m.job_id = o.job_id)
    """,
    "receipt_numbers_have_no_gap": """
        SELECT n.account_id, 'number ' || n.number || ' follows none, though ' || o.first || ' is the first'
        FROM receipts r JOIN receipt_numbers n ON n.job_id = r.job_id
        CROSS JOIN LATERAL (SELECT min(number) AS first FROM receipt_numbers
                            WHERE account_id = n.account_id AND test = n.test) o
        WHERE r.settled_at >= :since AND n.number > o.first AND NOT EXISTS (
            SELECT FROM receipt_numbers p
            WHERE p.account_id = n.account_id AND p.test = n.test AND p.number = n.number - 1)
    """,
    "wallet_counts_its_receipts": """
        SELECT w.account_id, 'the newest receipt has the number ' || n.newest || ', the wallet counts '
            || CASE WHEN n.test THEN w.test_receipts ELSE w.live_receipts END
        FROM wallets w CROSS JOIN LATERAL (
            SELECT s.test, (SELECT max(number) FROM receipt_numbers WHERE account_id = w.account_id AND test = s.test)
                AS newest
            FROM (VALUES (true), (false)) AS s (test)) n
        WHERE n.newest <> CASE WHEN n.test THEN w.test_receipts ELSE w.live_receipts END
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
    "service_figures_are_sums_of_their_rows": f"""
        SELECT starts_at || ' ' || error_code, 'sums to ' || coalesce(f.figures, 'nothing') || ', the rows to '
            || coalesce(r.figures, 'nothing')
        FROM (SELECT starts_at, error_code, ({_FIGURES_TEXT})::text AS figures FROM service_figures
              WHERE starts_at >= :since) f
        FULL JOIN (SELECT starts_at, error_code, ({_FIGURES_TEXT})::text AS figures FROM (
            {FIGURES.replace(":until", _SUMMED_UNTIL)}) AS rows) r USING (starts_at, error_code)
        WHERE f.figures IS DISTINCT FROM r.figures
          AND NOT (r.figures IS NULL AND f.figures = '(0,0,0,0,0,0)')
    """,
    "erased_event_has_its_erasure": """
        SELECT DISTINCT account_id, 'has events without bodies, and no erasure' FROM events AS e
        WHERE erased_hash IS NOT NULL AND NOT EXISTS (
            SELECT FROM erasures AS x WHERE x.kind = 'account' AND x.subject_id = e.account_id)
    """,
    "erased_reason_has_its_erasure": """
        SELECT t.id, 'has no reason, and ' || t.account_id || ' no erasure' FROM transfers AS t
        WHERE t.reason ~ '^erased:[0-9a-f]{64}$' AND NOT EXISTS (
            SELECT FROM erasures AS x WHERE x.kind = 'account' AND x.subject_id = t.account_id) AND NOT EXISTS (
            SELECT FROM erasures AS x JOIN members AS m ON m.id = x.subject_id
            WHERE x.kind = 'member' AND m.account_id = t.account_id)
    """,
    "erasure_is_in_the_audit_log": """
        SELECT x.id, 'of ' || x.subject_id || ' is not in the audit log'
        FROM erasures AS x WHERE NOT EXISTS (
            SELECT FROM audit_entries AS e WHERE e.subject = x.subject_id AND e.act = 'erasure.started'
                AND e.facts ->> 'erasure' = x.id)
    """,
    "marked_film_is_its_successor": """
        SELECT s.film_id, 'was ' || s.old_sha256 || ' and is ' || s.new_sha256 || ', its job says '
            || coalesce(j.film ->> 'sha256', 'nothing') || ' and its receipt ' || coalesce(r.film_sha256, 'nothing')
        FROM film_successors s LEFT JOIN jobs j ON j.id = s.film_id LEFT JOIN receipts r ON r.job_id = s.film_id
             LEFT JOIN registry_films f USING (film_id)
        WHERE s.marked_at >= :since AND (
            (j.film_key, j.film) IS DISTINCT FROM
                (s.new_key, s.old_film || jsonb_build_object('sha256', s.new_sha256, 'bytes', s.new_bytes))
            OR (r.film_key, r.film_sha256) IS DISTINCT FROM (s.old_key, s.old_sha256)
            OR s.old_film ->> 'sha256' <> s.old_sha256 OR f.sha256 IS DISTINCT FROM s.new_sha256
            OR NOT starts_with(s.new_key, 'films/' || s.film_id || '/')
            OR NOT EXISTS (SELECT FROM backfill_claims AS c
                           WHERE c.film_id = s.film_id AND c.state = 'marked' AND c.new_key = s.new_key))
    """,
    "registry_knows_the_stored_film": """
        SELECT f.film_id, 'is ' || f.sha256 || ' in the registry, its job says ' || (j.film ->> 'sha256')
        FROM registry_films f JOIN jobs j ON j.id = f.film_id
        WHERE j.finished_at >= :since AND f.sha256 <> j.film ->> 'sha256'
    """,
    "redeemed_quote_has_its_job": """
        SELECT q.id, 'is redeemed by ' || q.job_id || ', which does not hold it'
        FROM quotes q LEFT JOIN jobs j ON j.id = q.job_id AND j.quote_id = q.id
        WHERE q.state = 'redeemed' AND q.expires_at >= :since AND j.id IS NULL
    """,
}


def audit_books(session: Session) -> list[AuditFinding]:
    """Return every row that breaks a rule: wallets, prices, jobs, receipts, events, and the replay of all receipts.

    Sealed months are read again like all others, and must have the content that was sealed.
    """
    months = [month_of(each.month) for each in sealed_months(session)]
    findings = [*audit_rules(session, ALWAYS), *changed_months(session, day_digests(session, months))]
    return findings + replay_receipts(session)[1]


def audit_rules(session: Session, since: datetime) -> list[AuditFinding]:
    """Return what breaks a rule about rows from `since` on.

    Sums of the whole life of a wallet, a budget or an allowance have the rows of sealed months from `sealed_sums`,
    unless `since` is in a sealed month: then all rows are read, and must come to those sums.
    """
    unsealed = unsealed_since(session)
    scope = AuditScope(unsealed, sealed=True) if since >= unsealed else EVERYTHING
    findings = [*audit_wallet(session, scope), *audit_prices(session, scope), *changed_sums(session)]
    findings += [] if scope.sealed else wrong_sums(session)
    for rule, query in RULES.items():
        facts = {"since": since} if ":since" in query else {}
        findings += [
            AuditFinding(rule, str(subject), str(message)) for subject, message in session.execute(text(query), facts)
        ]
    return findings
