-- Count the units of a pool that workers may claim now, up to :limit: of each account as many as its concurrency leaves.
WITH busy AS (
    -- As in claim.sql.
    SELECT account_id, count(*) AS running
    FROM takes
    WHERE state = 'running' AND kind = 'segment' AND (pool = :test_pool) = (CAST(:pool AS text) = :test_pool)
    GROUP BY account_id
),
waiting AS (
    SELECT l.account_id, sum(l.ready) AS ready, min(s.concurrency) AS concurrency, min(b.running) AS running
    FROM lanes AS l
    LEFT JOIN shares AS s ON s.pool = l.pool AND s.account_id = l.account_id
    LEFT JOIN busy AS b ON b.account_id = l.account_id
    WHERE l.pool = :pool AND l.ready > 0
    GROUP BY l.account_id
)
SELECT count(*) AS units
FROM (
    SELECT FROM waiting AS w
    CROSS JOIN LATERAL (
        SELECT FROM units
        WHERE pool = :pool AND state = 'ready' AND class IN (0, 1, 2) AND account_id = w.account_id
            AND (not_before IS NULL OR not_before <= :now)
        LIMIT CASE
            WHEN CAST(:pool AS text) = :finish_pool THEN w.ready
            ELSE greatest(coalesce(w.concurrency, 1) - coalesce(w.running, 0), 0)
        END
    ) AS unit
    LIMIT :limit
) AS claimable
