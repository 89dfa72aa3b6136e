-- What an order has to know of its account, in one statement. The account's submissions are locked before it, so that
-- what is counted and looked up here stays so until the order is written.
WITH clock AS MATERIALIZED (
    SELECT coalesce(CAST(:at AS timestamptz), clock_timestamp() + CAST(:shift AS interval)) AS now
)
SELECT
    -- As of now: the account may have been suspended after the caller was authenticated.
    a.suspended_at IS NOT NULL AS is_suspended, a.suspended_reason,
    c.now, a.currency, a.billing_zone, a.queue_limit, a.concurrency,
    b.id AS book_id, b.content_hash AS book_hash,
    -- An ended contract does not bring back the one before it.
    CASE WHEN k.ends_at IS NULL OR k.ends_at > c.now THEN k.id END AS contract_id, k.content_hash AS contract_hash,
    (SELECT m.name FROM membership_periods AS m
     WHERE m.account_id = a.id AND m.starts_at <= c.now AND (m.ends_at IS NULL OR m.ends_at > c.now)) AS membership,
    -- Which month it is depends on the zone; yesterday's is the earliest.
    (SELECT json_object_agg(f.month, f.reserved + f.spent) FROM free_uses AS f
     WHERE f.account_id = a.id AND f.month >= to_char(c.now - interval '2 days', 'YYYY-MM')) AS free_uses,
    (SELECT count(*) FROM jobs AS j
     WHERE j.account_id = a.id AND j.test = :test AND j.state IN ('queued', 'in_progress')) AS waiting,
    EXISTS (SELECT FROM intake_pauses AS p
            WHERE p.resumed_at IS NULL AND (p.account_id IS NULL OR p.account_id = a.id)) AS has_pause,
    EXISTS (SELECT FROM order_stops AS o
            WHERE o.account_id = a.id AND o.scope IN (:scope, '*') AND o.test = :test AND o.allowed_at IS NULL)
        AS is_stopped,
    (SELECT json_agg(json_build_array(t.model, t.terms_hash)) FROM acknowledged_terms AS t) AS accepted_terms,
    (SELECT json_build_array(p.account_id, p.archived_at IS NOT NULL) FROM projects AS p WHERE p.id = :project_id)
        AS project,
    -- As app.webhooks.fanout.subscribed_endpoints.
    (SELECT json_agg(json_build_array(e.id, e.event_types)) FROM webhook_endpoints AS e
     WHERE e.account_id = a.id AND e.kind = 'registered' AND e.test = :test
       AND e.disabled_at IS NULL AND e.deleted_at IS NULL
       AND (e.project_id IS NULL OR e.project_id = :project_id)) AS endpoints,
    -- Whether an earlier call may have been this one: app.jobs.idempotency decides.
    EXISTS (SELECT FROM submissions AS s WHERE s.account_id = a.id AND s.key = :key)
        OR EXISTS (SELECT FROM submissions AS s
                   WHERE s.account_id = a.id AND s.fingerprint = :repeated AND (s.overtook OR :is_retry)
                     AND s.created_at > c.now - CAST(:retry_time AS interval))
        OR EXISTS (SELECT FROM quotes AS q WHERE q.id = :quote_id AND q.job_id IS NOT NULL) AS may_repeat
FROM clock AS c
JOIN accounts AS a ON a.id = :account_id
LEFT JOIN LATERAL (
    SELECT id, content_hash FROM price_books
    WHERE state = 'scheduled' AND effective_at <= c.now
    ORDER BY effective_at DESC LIMIT 1
) AS b ON true
LEFT JOIN LATERAL (
    SELECT id, content_hash, ends_at FROM contracts
    WHERE account_id = a.id AND state = 'scheduled' AND effective_at <= c.now
    ORDER BY effective_at DESC LIMIT 1
) AS k ON true
