-- Record a worker's state, at the moment :now or, where it is NULL, now; return its orders, or no row where it is not
-- registered.
UPDATE workers
SET state = :state, take_id = :take_id, resident_model = :resident_model,
    seen_at = coalesce(CAST(:now AS timestamptz), clock_timestamp())
WHERE id = :worker_id
RETURNING drain_requested, leave_at
