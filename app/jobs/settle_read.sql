-- What the end of a job has to know beside its row. The caller holds the job.
SELECT
    (SELECT coalesce(max(sequence), 0) FROM events WHERE job_id = :job_id) AS last_sequence,
    (SELECT coalesce(sum(gpu_seconds), 0) FROM takes WHERE job_id = :job_id) AS gpu_seconds,
    -- Unknown where the cost of one of them is; they ended under code before the revision 0052.
    (SELECT CASE WHEN bool_and(gpu_cost IS NOT NULL) THEN sum(gpu_cost) END FROM takes
     WHERE job_id = :job_id AND state <> 'running') AS gpu_cost,
    EXISTS (SELECT FROM takes WHERE job_id = :job_id AND state = 'running')
        OR EXISTS (SELECT FROM units WHERE job_id = :job_id AND state IN ('blocked', 'ready', 'running')) AS has_work,
    EXISTS (SELECT FROM reservations WHERE quote_id = :owner AND state = 'held') AS has_reservation,
    -- As app.webhooks.fanout.subscribed_endpoints.
    (SELECT json_agg(json_build_array(e.id, e.event_types))
     FROM webhook_endpoints AS e
     WHERE e.account_id = :account_id AND e.kind = 'registered' AND e.test = :test
       AND e.disabled_at IS NULL AND e.deleted_at IS NULL
       AND (e.project_id IS NULL OR e.project_id = :project_id)) AS endpoints
