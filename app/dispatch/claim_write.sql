-- Lease a unit: charge the account's share, advance the pool's clock, write the take, and mark its worker as busy. Return
-- the take's fence, and whether the worker leaves work for another one that is idle.
--
-- The caller holds the job, the unit and the share.
WITH share AS (
    UPDATE shares AS s
    SET vtime = greatest(s.vtime, CAST(:vclock AS numeric)) + CAST(:charged AS numeric) / s.weight,
        jumped = CASE WHEN :jumps THEN s.jumped + CAST(:charged AS numeric) ELSE 0 END
    WHERE s.pool = :pool AND s.account_id = :account_id
),
clock AS (
    INSERT INTO pools AS p (name, vclock) VALUES (:pool, CAST(:vmin AS numeric))
    ON CONFLICT (name) DO UPDATE SET vclock = excluded.vclock WHERE p.vclock < excluded.vclock
),
unit AS (
    UPDATE units SET state = 'running' WHERE id = :unit_id
),
worker AS (
    UPDATE workers SET state = 'busy', take_id = :take_id WHERE id = :worker_id
),
take AS (
    INSERT INTO takes (id, unit_id, job_id, account_id, pool, model, kind, worker_id, gpu, state, lease_until, charged,
                       share_settled, step, steps, started_at, gpu_seconds)
    VALUES (:take_id, :unit_id, :job_id, :account_id, :pool, :model, :kind, :worker_id, :gpu, 'running', :lease_until,
            :charged, false, 0, 0, :now, 0)
    RETURNING fence
)
SELECT t.fence,
       :has_more AND EXISTS (
           SELECT FROM workers AS w
           WHERE w.state <> 'gone' AND w.state = 'idle' AND NOT w.drain_requested AND w.id <> :worker_id
             AND w.pools @> to_jsonb(CAST(:pool AS text))
       ) AS wakes
FROM take AS t
