-- Renew the lease of a take and record its progress; return the orders of its worker, or no row when the lease is lost.
--
-- The job is locked before its take, as everywhere: `renewed` reads `progressed`, so that it is written first. Progress
-- never goes back, though a retry starts at 0; where the lease is lost, it is rolled back with the rest.
WITH progressed AS (
    UPDATE jobs SET progress = CAST(:percent AS smallint)
    WHERE id = :job_id AND progress < CAST(:percent AS smallint)
    RETURNING id
),
renewed AS (
    UPDATE takes SET lease_until = :until, renewed_at = :now, step = :step, steps = :steps
    WHERE id = :take_id AND fence = :fence AND state = 'running' AND lease_until > :now
      AND (SELECT count(*) FROM progressed) >= 0
    RETURNING worker_id
)
SELECT w.drain_requested, w.leave_at FROM renewed AS r LEFT JOIN workers AS w ON w.id = r.worker_id
