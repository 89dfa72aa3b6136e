-- What the forecasts of some unfinished jobs (:ids) are made of, one row a job; app.dispatch.eta does the arithmetic.
--
-- What waits is read from the scheduler's snapshot and never from the units, so the length of a queue costs nothing. What
-- other accounts have waiting is not read here: app.dispatch.waiting_work keeps it by the version of the snapshot.
-- :now is the clock of leases; NULL reads it.
--
-- Seconds of a unit are its frames by the measured throughput; where none is known, by the
-- priors of app.dispatch.throughput.
WITH priors (model, p50, p90) AS (
    VALUES ('demo', 0.1, 0.4), ('finish', 0.02, 0.06)
),
wanted AS MATERIALIZED (
    SELECT id, account_id, pool, stage, started_at, spec ->> 'resolution' AS shape,
           CAST(spec ->> 'frames' AS int) AS frames
    FROM jobs
    WHERE id = ANY (CAST(:ids AS text[])) AND state IN ('queued', 'in_progress')
),
-- The first ready unit of each job; a job without one runs, or is being finished.
first AS MATERIALIZED (
    SELECT DISTINCT ON (w.id) w.id, w.pool, w.account_id, u.class, u.queued_at, coalesce(s.vtime, 0) AS vtime,
           coalesce(s.weight, 1) AS weight, coalesce(s.concurrency, 1) AS concurrency
    FROM wanted AS w
    JOIN units AS u ON u.job_id = w.id AND u.pool = w.pool AND u.state = 'ready'
    LEFT JOIN shares AS s ON s.pool = u.pool AND s.account_id = u.account_id
    ORDER BY w.id, u.class, u.queued_at
),
-- The account's own work that goes before: all of a higher priority, and what is older of the same one. That lies between
-- two marks of its queue, or between the last one and the whole queue.
own AS MATERIALIZED (
    SELECT f.id, sum(part.jobs) AS jobs, sum(part.p50) AS p50, sum(part.p90) AS p90
    FROM first AS f
    JOIN queue_snapshots AS q ON q.pool = f.pool AND q.account_id = f.account_id AND q.class <= f.class
    CROSS JOIN LATERAL (
        SELECT q.jobs, q.p50, q.p90
        WHERE q.class < f.class
        UNION ALL
        (
            SELECT CASE WHEN m.is_exact THEN m.jobs ELSE m.jobs_before + round(m.share * (m.jobs - m.jobs_before)) END,
                   CASE WHEN m.is_exact THEN m.p50 ELSE m.p50_before + m.share * (m.p50 - m.p50_before) END,
                   CASE WHEN m.is_exact THEN m.p90 ELSE m.p90_before + m.share * (m.p90 - m.p90_before) END
            FROM (
                SELECT *, units - units_before <= 1 OR at <= key AS is_exact,
                       (key - at_before) / nullif(at - at_before, 0) AS share
                FROM (
                    SELECT *, CAST(extract(epoch FROM f.queued_at) * 1000000 AS numeric) AS key, lag(at) OVER line AS at_before,
                           lag(units) OVER line AS units_before, lag(jobs) OVER line AS jobs_before,
                           lag(p50) OVER line AS p50_before, lag(p90) OVER line AS p90_before,
                           lead(at) OVER line IS NULL AS is_last
                    FROM (
                        SELECT CAST(mark ->> 0 AS numeric) AS at, CAST(mark ->> 1 AS int) AS units,
                               CAST(mark ->> 2 AS int) AS jobs, CAST(mark ->> 3 AS numeric) AS p50,
                               CAST(mark ->> 4 AS numeric) AS p90
                        FROM jsonb_array_elements(q.marks) AS mark
                        UNION ALL
                        SELECT CAST(q.marks -> -1 ->> 0 AS numeric) + 1, q.units, q.jobs, q.p50, q.p90
                    ) AS marks
                    WINDOW line AS (ORDER BY at, units)
                ) AS lines
            ) AS m
            WHERE q.class = f.class AND (m.at >= m.key OR m.is_last)
            ORDER BY m.at, m.units
            LIMIT 1
        )
    ) AS part (jobs, p50, p90)
    WHERE part.p50 IS NOT NULL
    GROUP BY f.id
),
turns AS MATERIALIZED (
    SELECT f.*, coalesce(o.jobs, 0) AS own_jobs, coalesce(o.p50, 0) AS own_p50, coalesce(o.p90, 0) AS own_p90,
           -- The virtual time at which the job is next in its account.
           CAST(f.vtime + coalesce(o.p50, 0) / f.weight AS float8) AS turn
    FROM first AS f
    LEFT JOIN own AS o ON o.id = f.id
),
serving AS MATERIALIZED (
    SELECT pools, memory_mb, features FROM workers WHERE state <> 'gone' AND state IN ('starting', 'idle', 'busy') AND NOT drain_requested
),
-- The takes that run and count for these jobs: of the job itself, of its account and of its pool.
running AS MATERIALIZED (
    SELECT t.job_id, t.pool, t.account_id, t.kind,
           greatest(u.frames * coalesce(p.p50, prior.p50, 1) - extract(epoch FROM clock.moment - t.started_at), 0) AS p50,
           greatest(u.frames * coalesce(p.p90, prior.p90, 2) - extract(epoch FROM clock.moment - t.started_at), 0) AS p90
    FROM takes AS t
    CROSS JOIN (SELECT coalesce(CAST(:now AS timestamptz), clock_timestamp()) AS moment) AS clock
    JOIN units AS u ON u.id = t.unit_id
    JOIN jobs AS j ON j.id = t.job_id
    LEFT JOIN paces AS p ON p.model = u.model AND p.kind = u.kind AND p.shape = j.spec ->> 'resolution'
    LEFT JOIN priors AS prior ON prior.model = u.model
    WHERE t.state = 'running' AND (
        t.job_id IN (SELECT id FROM wanted) OR t.pool IN (SELECT pool FROM turns)
        OR t.account_id IN (SELECT account_id FROM turns) AND t.kind = 'segment'
    )
),
films AS MATERIALIZED (
    SELECT coalesce(sum(p50), 0) AS p50, coalesce(sum(p90), 0) AS p90 FROM queue_snapshots WHERE pool = :finish_pool
),
facts AS (
    SELECT w.id AS facts_id, w.started_at IS NOT NULL AS has_started, t.concurrency, t.own_jobs, t.own_p50, t.own_p90,
           t.account_id AS turn_account, t.class AS turn_class, t.turn,
           CAST(extract(epoch FROM t.queued_at) * 1000000 AS bigint) AS turn_queued_us,
           (SELECT v.version FROM queue_versions AS v WHERE v.pool = t.pool) AS queue_version,
           (SELECT count(*) FROM serving AS s WHERE s.pools @> to_jsonb(w.pool)
                AND (s.memory_mb IS NULL OR s.memory_mb >= coalesce(rest.memory_mb, 0))
                AND (s.features IS NULL OR s.features @> coalesce(rest.features, '{}'))) AS workers,
           w.pool AS needed_pool, rest.memory_mb AS needed_memory_mb, rest.features AS needed_features,
           (SELECT count(*) FROM serving AS s WHERE s.pools @> to_jsonb(CAST(:finish_pool AS text))) AS finish_workers,
           busy.takes AS busy_takes, busy.p50 AS busy_p50, busy.p90 AS busy_p90,
           mine.p50 AS running_p50, mine.p90 AS running_p90,
           theirs.takes AS account_takes, theirs.p50 AS account_p50, theirs.p90 AS account_p90,
           rest.p50 AS rest_p50, rest.p90 AS rest_p90, rest.shots AS open_shots,
           films.p50 AS films_p50, films.p90 AS films_p90,
           w.frames * coalesce(film.p50, 0.02) AS finish_p50, w.frames * coalesce(film.p90, 0.06) AS finish_p90,
           -- Whether the film itself is among those that wait to be finished.
           w.stage = 'finishing' AND EXISTS (
               SELECT FROM units AS u WHERE u.job_id = w.id AND u.kind = 'finish' AND u.state = 'ready'
           ) AS is_film_ready,
           w.stage = 'moderating' AS is_in_review
    FROM wanted AS w
    CROSS JOIN films
    LEFT JOIN turns AS t ON t.id = w.id
    LEFT JOIN paces AS film ON film.model = :finish_pool AND film.kind = 'finish' AND film.shape = w.shape
    CROSS JOIN LATERAL (
        SELECT count(*) AS takes, coalesce(sum(p50), 0) AS p50, coalesce(sum(p90), 0) AS p90
        FROM running AS r WHERE r.pool = w.pool
    ) AS busy
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(p50), 0) AS p50, coalesce(sum(p90), 0) AS p90
        FROM running AS r WHERE r.job_id = w.id AND r.kind = 'segment'
    ) AS mine
    -- An account's limit counts its segments in all pools, those of test orders apart, as a claim counts them.
    CROSS JOIN LATERAL (
        SELECT count(*) AS takes, coalesce(sum(p50), 0) AS p50, coalesce(sum(p90), 0) AS p90
        FROM running AS r
        WHERE r.account_id = w.account_id AND r.kind = 'segment' AND (r.pool = :test_pool) = (w.pool = :test_pool)
    ) AS theirs
    -- Segments that have not started. A shot is open while a segment of it waits or runs: they render one after another.
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(u.frames * coalesce(p.p50, prior.p50, 1)) FILTER (WHERE u.state <> 'running'), 0) AS p50,
               coalesce(sum(u.frames * coalesce(p.p90, prior.p90, 2)) FILTER (WHERE u.state <> 'running'), 0) AS p90,
               -- All of them must fit a worker, so the largest counts; a job has one model, whose features they share.
               count(DISTINCT u.shot) AS shots, max(u.memory_mb) AS memory_mb, max(u.features) AS features
        FROM units AS u
        LEFT JOIN paces AS p ON p.model = u.model AND p.kind = u.kind AND p.shape = w.shape
        LEFT JOIN priors AS prior ON prior.model = u.model
        WHERE u.job_id = w.id AND u.kind = 'segment' AND u.state IN ('blocked', 'ready', 'running')
    ) AS rest
)
