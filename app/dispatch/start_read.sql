-- What the event of a job's start has to know. The caller holds the job.
SELECT
    (SELECT coalesce(max(sequence), 0) FROM events WHERE job_id = :job_id) AS last_sequence,
    -- As app.webhooks.fanout.subscribed_endpoints.
    (SELECT json_agg(json_build_array(e.id, e.event_types))
     FROM webhook_endpoints AS e
     WHERE e.account_id = :account_id AND e.kind = 'registered' AND e.test = :test
       AND e.disabled_at IS NULL AND e.deleted_at IS NULL
       AND (e.project_id IS NULL OR e.project_id = :project_id)) AS endpoints
