-- Write an accepted order: its jobs, their group where there are several, the redemption of their quotes, the shares
-- that they join, their units, how the call is recognised, their first events, and the deliveries of these. Its money
-- is held after it (app.wallet.hold). All jobs are of one account, project, pool and kind.
--
-- The shares are joined by the names of their pools; the lanes of the units are counted by a trigger at the end of the
-- statement, so after them (app.lock_order). As in start-time fair queueing, idleness earns no credit: the virtual time
-- of a share is at least its pool's. A share in which nothing changes is locked, and not written.
WITH placed AS MATERIALIZED (
    SELECT * FROM jsonb_populate_recordset(CAST(NULL AS jobs), CAST(:jobs AS jsonb))
),
job_group AS (
    INSERT INTO job_groups (id, account_id, project_id, test, size, unfinished, callback_url, created_at, traceparent,
                            request_id)
    SELECT :group_id, :account_id, :project_id, :test, :size, :size, :group_callback_url, :now, :traceparent,
        :request_id
    WHERE CAST(:group_id AS text) IS NOT NULL
),
job AS (
    INSERT INTO jobs (
        id, account_id, project_id, key_id, test, state, stage, spec, spec_hash, model, model_alias, pool, pricing,
        price, quote_id, total, list_total, currency, prompt, metadata, resolved, door, checked_by, parent_id, parent_kind,
        group_id, group_index, callback_url, callback_events, retention, progress, units_total, units_done, created_at,
        cancel_at, not_after, promote_at, start_by, review_due_at, traceparent, request_id
    )
    SELECT
        id, account_id, project_id, key_id, test, state, stage, spec, spec_hash, model, model_alias, pool, pricing,
        price, quote_id, total, list_total, currency, prompt, metadata, resolved, door, checked_by, parent_id, parent_kind,
        group_id, group_index, callback_url, callback_events, retention, progress, units_total, units_done, created_at,
        cancel_at, not_after, promote_at, start_by, review_due_at, traceparent, request_id
    FROM placed
),
quote AS (
    UPDATE quotes SET state = 'redeemed', job_id = (SELECT p.id FROM placed AS p WHERE p.quote_id = quotes.id)
    WHERE id = ANY (CAST(:quotes AS text[]))
),
share AS (
    INSERT INTO shares AS s (pool, account_id, vtime, weight, concurrency, jumped)
    SELECT p.name, :account_id, coalesce((SELECT vclock FROM pools WHERE name = p.name), 0), :weight, :concurrency, 0
    FROM unnest(CAST(:pools AS text[])) AS p (name)
    ON CONFLICT (pool, account_id) DO UPDATE
    SET vtime = greatest(s.vtime, excluded.vtime), weight = excluded.weight, concurrency = excluded.concurrency
    WHERE s.vtime < excluded.vtime OR s.weight <> excluded.weight OR s.concurrency <> excluded.concurrency
),
unit AS (
    INSERT INTO units (id, job_id, account_id, kind, pool, model, state, class, shot, position, frames, estimate,
        memory_mb, features, queued_at, takes_lost, takes_error)
    SELECT u ->> 'id', u ->> 'job_id', :account_id, u ->> 'kind', u ->> 'pool', u ->> 'model', u ->> 'state',
        CAST(u ->> 'class' AS smallint), CAST(u ->> 'shot' AS int), CAST(u ->> 'position' AS int),
        CAST(u ->> 'frames' AS int), CAST(u ->> 'estimate' AS numeric),
        CAST(u ->> 'memory_mb' AS int), ARRAY(SELECT jsonb_array_elements_text(u -> 'features')),
        -- A microsecond apart, so that a storyboard starts with its first shot, and a group with its first job.
        :now + (n - 1) * interval '1 microsecond', 0, 0
    FROM jsonb_array_elements(CAST(:units AS jsonb)) WITH ORDINALITY AS each (u, n)
),
submission AS (
    INSERT INTO submissions (job_id, account_id, key, fingerprint, overtook, created_at)
    VALUES (:job_id, :account_id, :key, :fingerprint, :overtook, :now)
),
event AS (
    INSERT INTO events (id, account_id, project_id, job_id, test, type, sequence, body, callback_url, occurred_at,
                        traceparent, request_id)
    SELECT e ->> 'id', :account_id, :project_id, e ->> 'job_id', :test, :event_type, 1, e ->> 'body',
        e ->> 'callback_url', :now, :traceparent, :request_id
    FROM jsonb_array_elements(CAST(:events AS jsonb)) AS e
)
INSERT INTO webhook_deliveries (id, event_id, endpoint_id, account_id, url, trigger, state, attempts, next_attempt_at,
                                created_at)
SELECT d ->> 0, d ->> 1, d ->> 2, :account_id, d ->> 3, 'auto', 'pending', 0, :now, :now
FROM jsonb_array_elements(CAST(:deliveries AS jsonb)) AS d
