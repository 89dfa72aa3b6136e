-- End a take that has succeeded: write the take, its unit and its job, and correct its account's share.
--
-- The caller holds the job, the take and the unit. `pools` are the pools in which the account's ready units change with
-- this transaction: their shares are locked first, by their names (app.lock_order).
WITH locked AS MATERIALIZED (
    SELECT pool, account_id FROM shares
    WHERE account_id = :account_id AND pool = ANY (CAST(:pools AS text[]))
    ORDER BY pool
    FOR UPDATE
),
share AS (
    UPDATE shares AS s SET vtime = greatest(s.vtime + CAST(:correction AS numeric) / s.weight, 0)
    FROM locked AS l
    WHERE s.pool = l.pool AND s.account_id = l.account_id AND s.pool = :pool
),
take AS (
    UPDATE takes
    SET state = 'succeeded', ended_at = :now, meter = CAST(:meter AS jsonb), gpu_seconds = :gpu_seconds,
        gpu_cost = :gpu_cost,
        clip_key = :clip_key, share_settled = true
    WHERE id = :take_id
),
unit AS (
    UPDATE units
    SET state = 'done', done_at = :now, clip_key = :clip_key, handover_key = :handover_key, checkpoint_key = NULL
    WHERE id = :unit_id
)
UPDATE jobs SET units_done = :units_done, stage = :stage WHERE id = :job_id AND units_done <> :units_done
