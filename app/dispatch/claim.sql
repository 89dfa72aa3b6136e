-- Choose the next unit of one pool, in fair order. Nothing is locked here: claim.py locks the job and checks again.
-- `excluded` are accounts whose rows another transaction holds now: a process that stands still must not stop the pool.
--
-- A lane holds units that need the same of a GPU, so whether they fit is decided by the lane: those that do not fit the
-- worker (:memory_mb, :features; NULL where it has not said) are never read, however many there are.
--
-- 1. `waiting` is the accounts with ready units, from the table of lanes: its cost grows with the waiting accounts, not
--    with the length of their queues or with history. Accounts at their concurrency limit are left out.
-- 2. `best` is the highest priority (class), then the least virtual time, then age: the fair choice. Accounts are tried
--    in this order until one has a unit that fits and may start now, so only the first of them (and its equals) are read.
-- 3. `resident` is a unit for the model already on the GPU, of an account at most :affinity behind the fair choice.
--    Within its own account it overtakes older units only until :affinity seconds of work have done so.
-- 4. `vmin` is the least virtual time among the accounts of any class whose work fits this worker, without the charges
--    of running takes: the pool's virtual clock. A charge is an estimate that the end of its take corrects. With estimates
--    that were too high, the clock would run ahead of their accounts, and all of these would go before an account that
--    joins by it. Work that does not fit must not stop the clock: all who join later would go before those already served.
--    Nobody is behind the clock (`vclock`), so that an account whose worker comes late does not keep all workers.
WITH busy AS MATERIALIZED (
    -- Test orders have a pool of their own; takes that run there count only there.
    SELECT t.account_id,
           count(*) FILTER (WHERE t.kind = 'segment' AND (t.pool = :test_pool) = (:pool = :test_pool)) AS running,
           sum(t.charged) FILTER (WHERE t.pool = :pool) AS charged
    FROM takes AS t
    WHERE t.state = 'running'
    GROUP BY t.account_id
),
-- The lanes that fit, each with its oldest unit that may start now. Inlined, so that only the lanes of the accounts that
-- are tried are read.
heads AS NOT MATERIALIZED (
    SELECT l.class, l.account_id, l.model, u.id, u.queued_at
    FROM lanes AS l
    CROSS JOIN LATERAL (
        SELECT u.id, u.queued_at
        FROM units AS u
        WHERE u.pool = :pool AND u.state = 'ready' AND u.class = l.class AND u.account_id = l.account_id
          AND u.model = l.model AND u.memory_mb = l.memory_mb AND u.features = l.features
          AND (u.not_before IS NULL OR u.not_before <= :now)
        ORDER BY u.queued_at, u.id
        LIMIT 1
    ) AS u
    WHERE l.pool = :pool AND (CAST(:memory_mb AS int) IS NULL OR l.memory_mb <= :memory_mb)
      AND (CAST(:features AS text[]) IS NULL OR l.features <@ CAST(:features AS text[]))
),
waiting AS MATERIALIZED (
    SELECT l.class, l.account_id, bool_or(l.model = CAST(:resident AS text)) AS has_resident,
           greatest(min(s.vtime), min(p.vclock), 0) AS vtime, coalesce(min(s.jumped), 0) AS jumped,
           coalesce(min(b.charged / s.weight), 0) AS in_flight,
           least(sum(l.ready), CASE WHEN :pool <> :finish_pool
                 THEN min(coalesce(s.concurrency, 1) - coalesce(b.running, 0)) END) AS claimable,
           bool_or((CAST(:memory_mb AS int) IS NULL OR l.memory_mb <= :memory_mb)
               AND (CAST(:features AS text[]) IS NULL OR l.features <@ CAST(:features AS text[]))) AS fits
    FROM lanes AS l
    LEFT JOIN shares AS s ON s.pool = l.pool AND s.account_id = l.account_id
    LEFT JOIN pools AS p ON p.name = l.pool
    LEFT JOIN busy AS b ON b.account_id = l.account_id
    WHERE l.pool = :pool AND l.account_id <> ALL (CAST(:excluded AS text[]))
      AND (l.pool = :finish_pool OR coalesce(b.running, 0) < coalesce(s.concurrency, 1))
    GROUP BY l.class, l.account_id
),
best AS (
    SELECT first.*
    FROM (
        SELECT w.class, w.account_id, w.vtime, head.id, head.queued_at, head.model
        FROM (SELECT * FROM waiting ORDER BY class, vtime) AS w
        CROSS JOIN LATERAL (
            SELECT h.id, h.queued_at, h.model FROM heads AS h
            WHERE h.class = w.class AND h.account_id = w.account_id
            ORDER BY h.queued_at, h.id
            LIMIT 1
        ) AS head
        ORDER BY w.class, w.vtime
        FETCH FIRST 1 ROW WITH TIES
    ) AS first
    ORDER BY first.queued_at, first.id
    LIMIT 1
),
resident AS (
    SELECT near.id, e.account_id, near.id <> head.id AS jumps
    FROM best AS b
    CROSS JOIN LATERAL (
        SELECT * FROM waiting AS w
        WHERE w.has_resident AND w.class = b.class AND w.vtime <= b.vtime + CAST(:affinity AS numeric)
        ORDER BY w.vtime
    ) AS e
    CROSS JOIN LATERAL (
        SELECT h.id, h.queued_at FROM heads AS h
        WHERE h.class = e.class AND h.account_id = e.account_id AND h.model = CAST(:resident AS text)
        ORDER BY h.queued_at, h.id
        LIMIT 1
    ) AS near
    CROSS JOIN LATERAL (
        SELECT h.id FROM heads AS h
        WHERE h.class = e.class AND h.account_id = e.account_id
        ORDER BY h.queued_at, h.id
        LIMIT 1
    ) AS head
    WHERE b.model IS DISTINCT FROM CAST(:resident AS text)
      AND (near.id = head.id OR e.jumped < CAST(:affinity AS numeric))
    ORDER BY e.vtime, near.queued_at, near.id
    LIMIT 1
)
SELECT coalesce(r.id, b.id) AS unit_id, coalesce(r.account_id, b.account_id) AS account_id,
       coalesce(r.jumps, false) AS jumps,
       -- Whether another worker has something to claim beside this unit.
       (SELECT sum(claimable) > 1 FROM waiting) AS has_more,
       (SELECT min(vtime - in_flight) FROM waiting WHERE fits) AS vmin,
       coalesce((SELECT vclock FROM pools WHERE name = :pool), 0) AS vclock
FROM best AS b
LEFT JOIN resident AS r ON true
