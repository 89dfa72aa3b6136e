-- Write that a job has started: its row, its event, and the deliveries of that event. The caller holds the job and the
-- account's share.
WITH started AS (
    UPDATE jobs SET state = :state, started_at = :started_at, stage = :stage, promote_at = NULL WHERE id = :job_id
),
standard AS (
    -- A flex job that has started must not starve half done: from its first lease on it has standard priority.
    UPDATE units SET class = 1 WHERE job_id = :job_id AND class = 2
),
event AS (
    INSERT INTO events (id, account_id, project_id, job_id, test, type, sequence, body, callback_url, callback_body,
                        occurred_at, traceparent, request_id)
    VALUES (:event_id, :account_id, :project_id, :job_id, :test, :event_type, :sequence, :event_body, :callback_url,
            :callback_body, :started_at, :traceparent, :request_id)
)
INSERT INTO webhook_deliveries (id, event_id, endpoint_id, account_id, url, trigger, state, attempts, next_attempt_at,
                                created_at)
SELECT d ->> 0, :event_id, d ->> 1, :account_id, d ->> 2, 'auto', 'pending', 0, :started_at, :started_at
FROM jsonb_array_elements(CAST(:deliveries AS jsonb)) AS d
