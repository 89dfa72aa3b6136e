-- Let the claims of one pool run one after the other, and read what a claim has to know of its worker: NULL where it is
-- not registered. Work that becomes ready while this waits for the lock is not counted: its own wake-up follows, or the next look.
-- What follows in the transaction looks up single rows, or has the same plan for all values.
SELECT w.drain_requested, w.memory_mb, w.features, w.facts ->> 'name' AS name, l.now,
       EXISTS (SELECT FROM lanes WHERE pool = :pool AND ready > 0) AS has_ready
FROM (
    SELECT pg_advisory_xact_lock(hashtext(:lock)), set_config('plan_cache_mode', 'force_generic_plan', true),
           coalesce(CAST(:at AS timestamptz), clock_timestamp() + CAST(:shift AS interval)) AS now
) AS l
LEFT JOIN workers AS w ON w.id = :worker_id
