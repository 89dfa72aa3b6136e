-- Choose the next unit of one pool, in fair order. Nothing is locked here: claim.py locks the job and checks again.
--
-- 1. `lanes` hops from one (class, account) with ready work to the next along ix_units_ready, so its cost grows with
--    the accounts that wait, never with the length of their queues or with the past.
-- 2. `eligible` keeps the head unit of each lane whose account runs fewer takes than its membership allows.
-- 3. `best` is the best class, then the least virtual time, then age: the fair choice.
-- 4. `resident` is a unit for the model already on the GPU, of an account at most :affinity behind the fair choice.
WITH RECURSIVE lanes AS (
    (
        SELECT u.class, u.account_id
        FROM units AS u
        WHERE u.pool = :pool AND u.state = 'ready'
        ORDER BY u.class, u.account_id
        LIMIT 1
    )
    UNION ALL
    SELECT hop.class, hop.account_id
    FROM lanes AS l
    CROSS JOIN LATERAL (
        SELECT u.class, u.account_id
        FROM units AS u
        WHERE u.pool = :pool AND u.state = 'ready' AND (u.class, u.account_id) > (l.class, l.account_id)
        ORDER BY u.class, u.account_id
        LIMIT 1
    ) AS hop
),
eligible AS (
    SELECT l.class, l.account_id, s.vtime, head.id, head.queued_at, head.model
    FROM lanes AS l
    JOIN shares AS s ON s.pool = :pool AND s.account_id = l.account_id
    CROSS JOIN LATERAL (
        SELECT u.id, u.queued_at, u.model
        FROM units AS u
        WHERE u.pool = :pool AND u.state = 'ready' AND u.class = l.class AND u.account_id = l.account_id
          AND (u.not_before IS NULL OR u.not_before <= :now)
        ORDER BY u.queued_at, u.id
        LIMIT 1
    ) AS head
    WHERE (
        SELECT count(*) FROM takes AS t
        WHERE t.state = 'running' AND t.account_id = l.account_id AND t.pool = :pool
    ) < s.concurrency
),
best AS (
    SELECT * FROM eligible ORDER BY class, vtime, queued_at, id LIMIT 1
),
resident AS (
    SELECT near.id
    FROM best AS b
    JOIN eligible AS e ON e.class = b.class AND e.vtime <= b.vtime + CAST(:affinity AS numeric)
    CROSS JOIN LATERAL (
        SELECT u.id
        FROM units AS u
        WHERE u.pool = :pool AND u.state = 'ready' AND u.class = e.class AND u.account_id = e.account_id
          AND u.model = CAST(:resident AS text) AND (u.not_before IS NULL OR u.not_before <= :now)
        ORDER BY u.queued_at, u.id
        LIMIT 1
    ) AS near
    WHERE b.model IS DISTINCT FROM CAST(:resident AS text)
    ORDER BY e.vtime, near.id
    LIMIT 1
)
SELECT coalesce((SELECT id FROM resident), b.id) AS unit_id, b.vtime AS vmin
FROM best AS b
