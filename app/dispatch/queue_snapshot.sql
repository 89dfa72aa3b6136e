-- Write what waits, by pool, class and account: a forecast reads these rows, never the units.
--
-- Only queues that have changed are read: each change of a queue writes its lanes, so a queue is as it was where its
-- lanes are the same rows in the same place by the same transactions. Throughput changes the seconds of a queue that has
-- not changed; so :aged queues that were read more than a minute ago are read again.
--
-- `marks` are up to 16 units of the line, evenly spaced from its oldest to its newest, each with its moment and with
-- the units, jobs and seconds before it: the place of any job in its account's own line lies between two of them.
WITH lines AS MATERIALIZED (
    SELECT pool, class, account_id,
           hashtextextended(
               string_agg(concat_ws(' ', model, ready, CAST(xmin AS text), CAST(ctid AS text)), ',' ORDER BY model, memory_mb, features), 0
           ) AS version
    FROM lanes
    WHERE ready > 0
    GROUP BY pool, class, account_id
),
due AS MATERIALIZED (
    SELECT l.pool, l.class, l.account_id, l.version
    FROM lines AS l
    LEFT JOIN queue_snapshots AS q ON q.pool = l.pool AND q.class = l.class AND q.account_id = l.account_id
    WHERE q.version IS DISTINCT FROM l.version
    UNION ALL
    (
        SELECT q.pool, q.class, q.account_id, q.version
        FROM queue_snapshots AS q
        JOIN lines AS l ON q.pool = l.pool AND q.class = l.class AND q.account_id = l.account_id
        WHERE q.version = l.version AND q.refreshed_at < CAST(:now AS timestamptz) - interval '1 minute'
        ORDER BY q.refreshed_at
        LIMIT :aged
    )
),
ready AS (
    SELECT d.version, u.pool, u.class, u.account_id, u.job_id, u.queued_at, u.id,
           u.frames * coalesce(t.p50, CASE u.model WHEN 'demo' THEN 0.1 WHEN 'finish' THEN 0.02 ELSE 1 END) AS p50,
           u.frames * coalesce(t.p90, CASE u.model WHEN 'demo' THEN 0.4 WHEN 'finish' THEN 0.06 ELSE 2 END) AS p90
    FROM due AS d
    JOIN units AS u ON u.pool = d.pool AND u.class = d.class AND u.account_id = d.account_id AND u.state = 'ready'
    JOIN jobs AS j ON j.id = u.job_id
    LEFT JOIN paces AS t ON t.model = u.model AND t.kind = u.kind AND t.shape = j.spec ->> 'resolution'
),
placed AS (
    SELECT *, row_number() OVER line AS place, count(*) OVER everything AS units,
           lag(job_id) OVER line IS DISTINCT FROM job_id AS is_first
    FROM ready
    WINDOW line AS (PARTITION BY pool, class, account_id ORDER BY queued_at, id),
           everything AS (PARTITION BY pool, class, account_id)
),
summed AS (
    SELECT *, sum(is_first::int) OVER line AS jobs_to, sum(p50) OVER line AS p50_to, sum(p90) OVER line AS p90_to
    FROM placed
    WINDOW line AS (PARTITION BY pool, class, account_id ORDER BY queued_at, id ROWS UNBOUNDED PRECEDING)
),
fresh AS MATERIALIZED (
    SELECT pool, class, account_id, max(version) AS version, max(units) AS units, max(jobs_to) AS jobs, sum(p50) AS p50, sum(p90) AS p90,
           min(queued_at) AS oldest,
           jsonb_agg(
               jsonb_build_array(
                   CAST(extract(epoch FROM queued_at) * 1000000 AS bigint), place - 1, jobs_to - is_first::int,
                   round(p50_to - p50, 3), round(p90_to - p90, 3)
               ) ORDER BY place
           ) FILTER (
               WHERE place = 1 OR (place - 1) * 15 / greatest(units - 1, 1) <> (place - 2) * 15 / greatest(units - 1, 1)
           ) AS marks
    FROM summed
    GROUP BY pool, class, account_id
),
gone AS (
    DELETE FROM queue_snapshots AS q
    WHERE NOT EXISTS (
        SELECT FROM lines AS l WHERE l.pool = q.pool AND l.class = q.class AND l.account_id = q.account_id
    )
    RETURNING q.pool
),
-- Whoever keeps what waits in a pool reads it again when its version is another one.
changed AS (
    INSERT INTO queue_versions AS v (pool, version)
    SELECT pool, gen_random_uuid() FROM (SELECT pool FROM fresh UNION SELECT pool FROM gone) AS pools
    ON CONFLICT (pool) DO UPDATE SET version = excluded.version
)
INSERT INTO queue_snapshots AS q (
    pool, class, account_id, units, jobs, p50, p90, oldest, marks, version, refreshed_at
)
SELECT pool, class, account_id, units, jobs, p50, p90, oldest, marks, version, CAST(:now AS timestamptz) FROM fresh
ON CONFLICT (pool, class, account_id) DO UPDATE SET
    units = excluded.units, jobs = excluded.jobs, p50 = excluded.p50, p90 = excluded.p90, oldest = excluded.oldest,
    marks = excluded.marks, version = excluded.version, refreshed_at = excluded.refreshed_at
