-- Choose the next unit of one pool, in fair order. Nothing is locked here: claim.py locks the job and checks again.
--
-- 1. `lanes` hops from one (class, account) with ready work to the next along ix_units_ready, and lands each time on
--    the lane's oldest unit. Its cost grows with the accounts that wait, never with their queues or with the past.
-- 2. `heads` keeps the lanes whose account may run one more segment. A lane whose oldest unit must still wait gives
--    the oldest that need not. `vmin` is the least virtual time among them, in whatever class: the pool's present.
-- 3. `best` is the best class, then the least virtual time, then age: the fair choice.
-- 4. `resident` is a unit for the model already on the GPU, of an account at most :affinity behind the fair choice.
--    Within its own account it goes ahead of older units only until :affinity seconds of work have done so.
WITH RECURSIVE lanes AS (
    (
        SELECT u.class, u.account_id, u.id, u.queued_at, u.model, u.not_before
        FROM units AS u
        WHERE u.pool = :pool AND u.state = 'ready'
        ORDER BY u.class, u.account_id, u.queued_at, u.id
        LIMIT 1
    )
    UNION ALL
    SELECT hop.*
    FROM lanes AS l
    CROSS JOIN LATERAL (
        SELECT u.class, u.account_id, u.id, u.queued_at, u.model, u.not_before
        FROM units AS u
        WHERE u.pool = :pool AND u.state = 'ready' AND (u.class, u.account_id) > (l.class, l.account_id)
        ORDER BY u.class, u.account_id, u.queued_at, u.id
        LIMIT 1
    ) AS hop
),
-- Tests and drills have a pool of their own, and what runs there counts there alone.
busy AS MATERIALIZED (
    SELECT t.account_id, count(*) AS running
    FROM takes AS t
    WHERE t.state = 'running' AND t.kind = 'segment' AND (t.pool = :test_pool) = (:pool = :test_pool)
    GROUP BY t.account_id
),
heads AS (
    SELECT l.class, l.account_id, h.id, h.queued_at, h.model,
           coalesce(s.vtime, p.vclock, 0) AS vtime, coalesce(s.jumped, 0) AS jumped
    FROM lanes AS l
    LEFT JOIN shares AS s ON s.pool = :pool AND s.account_id = l.account_id
    LEFT JOIN pools AS p ON p.name = :pool
    LEFT JOIN busy AS b ON b.account_id = l.account_id
    CROSS JOIN LATERAL (
        SELECT l.id, l.queued_at, l.model
        WHERE l.not_before IS NULL OR l.not_before <= :now
        UNION ALL
        (
            SELECT u.id, u.queued_at, u.model
            FROM units AS u
            WHERE l.not_before > :now
              AND u.pool = :pool AND u.state = 'ready' AND u.class = l.class AND u.account_id = l.account_id
              AND (u.not_before IS NULL OR u.not_before <= :now)
            ORDER BY u.queued_at, u.id
            LIMIT 1
        )
    ) AS h
    WHERE :pool = :finish_pool OR coalesce(b.running, 0) < coalesce(s.concurrency, 1)
),
best AS (
    SELECT * FROM heads ORDER BY class, vtime, queued_at, id LIMIT 1
),
resident AS (
    SELECT near.id, near.id <> e.id AS jumps
    FROM best AS b
    JOIN heads AS e ON e.class = b.class AND e.vtime <= b.vtime + CAST(:affinity AS numeric)
    CROSS JOIN LATERAL (
        SELECT u.id, u.queued_at
        FROM units AS u
        WHERE u.pool = :pool AND u.state = 'ready' AND u.class = e.class AND u.account_id = e.account_id
          AND u.model = CAST(:resident AS text) AND (u.not_before IS NULL OR u.not_before <= :now)
        ORDER BY u.queued_at, u.id
        LIMIT 1
    ) AS near
    WHERE b.model IS DISTINCT FROM CAST(:resident AS text)
      AND (near.id = e.id OR e.jumped < CAST(:affinity AS numeric))
    ORDER BY e.vtime, near.queued_at, near.id
    LIMIT 1
)
SELECT coalesce(r.id, b.id) AS unit_id, coalesce(r.jumps, false) AS jumps, (SELECT min(vtime) FROM heads) AS vmin
FROM best AS b
LEFT JOIN resident AS r ON true
