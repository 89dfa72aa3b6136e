-- Write the end of a job: its row, its receipt, the film's entry in the registry, its last event, and the deliveries
-- of that event.
-- The caller holds the job.
WITH ended AS (
    UPDATE jobs
    SET state = :state, finished_at = :now, progress = :progress, error_code = :error_code,
        error_message = :error_message, film_key = :film_key, poster_key = :poster_key, sprites_key = :sprites_key,
        film = CAST(:film AS jsonb), files_expire_at = :files_expire_at
    WHERE id = :job_id
    RETURNING id, account_id, test, film ->> 'sha256' AS sha256, mark_id, model, finished_at
),
registry AS (
    INSERT INTO registry_films (film_id, account_id, test, sha256, mark_id, frame_hashes, hash_parts, model,
                                model_version, reused_films, policy, made_at)
    SELECT id, account_id, test, sha256, mark_id, CAST(:frame_hashes AS bytea), CAST(:hash_parts AS integer[]), model,
           CAST(:model_version AS text), CAST(:reused_films AS text[]), CAST(:policy AS jsonb), finished_at
    FROM ended
    WHERE sha256 IS NOT NULL
),
receipt AS (
    INSERT INTO receipts (job_id, account_id, project_id, outcome, currency, quoted, total, list_total, body, film_key,
                          film_sha256, pricing_case, priced_at, gpu_milliseconds, gpu_cost, test, settled_at)
    VALUES (:job_id, :account_id, :project_id, :state, :currency, :quoted, :total, :list_total, :body, :film_key,
            :film_sha256, :pricing_case, :priced_at, :gpu_milliseconds, :gpu_cost, :test, :now)
),
event AS (
    INSERT INTO events (id, account_id, project_id, job_id, test, type, sequence, body, callback_url, callback_body,
                        occurred_at, traceparent, request_id)
    VALUES (:event_id, :account_id, :project_id, :job_id, :test, :event_type, :sequence, :event_body, :callback_url,
            :callback_body, :now, :traceparent, :request_id)
)
INSERT INTO webhook_deliveries (id, event_id, endpoint_id, account_id, url, trigger, state, attempts, next_attempt_at,
                                created_at)
SELECT d ->> 0, :event_id, d ->> 1, :account_id, d ->> 2, 'auto', 'pending', 0, :now, :now
FROM jsonb_array_elements(CAST(:deliveries AS jsonb)) AS d
