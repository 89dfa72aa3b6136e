-- The work of other accounts that goes before each of some jobs: all of a higher priority, and of the same priority as
-- many units of each account as begin at a virtual time before :turns, the one at which the job is next.
--
-- Arithmetic is in double precision, as this is a forecast; a difference under :epsilon counts as none.
WITH asked AS (
    SELECT * FROM unnest(
        CAST(:jobs AS text[]), CAST(:pools AS text[]), CAST(:classes AS int[]), CAST(:accounts AS text[]),
        CAST(:turns AS float8[]), CAST(:ages AS timestamptz[])
    ) AS a (job_id, pool, class, account_id, turn, age)
),
waiting AS MATERIALIZED (
    SELECT q.pool, q.class, q.account_id, q.units, q.jobs, CAST(q.p50 AS float8) AS p50, CAST(q.p90 AS float8) AS p90,
           q.oldest, CAST(coalesce(s.vtime, 0) AS float8) AS vtime,
           CAST(q.p50 / q.units / coalesce(s.weight, 1) AS float8) AS length
    FROM queue_snapshots AS q
    LEFT JOIN shares AS s ON s.pool = q.pool AND s.account_id = q.account_id
    WHERE q.pool = ANY (CAST(:pools AS text[]))
),
ahead AS (
    SELECT a.job_id, w.jobs, w.p50, w.p90, w.units AS all_units,
           CASE
               WHEN w.class < a.class THEN w.units
               WHEN w.length <= 0 THEN w.units
               -- At the same virtual time the older one goes first.
               ELSE least(
                   CAST(w.units AS float8),
                   CASE WHEN w.oldest < a.age
                       THEN floor((a.turn - w.vtime) / w.length + :epsilon) + 1
                       ELSE ceil((a.turn - w.vtime) / w.length - :epsilon)
                   END
               )
           END AS units
    FROM asked AS a
    JOIN waiting AS w ON w.pool = a.pool AND w.class <= a.class AND w.account_id <> a.account_id
        AND (w.class < a.class OR w.vtime <= a.turn + :epsilon)
)
SELECT job_id, CAST(sum(ceil(jobs * units / all_units - :epsilon)) AS bigint) AS jobs, sum(p50 * units / all_units) AS p50,
       sum(p90 * units / all_units) AS p90
FROM ahead
GROUP BY job_id
