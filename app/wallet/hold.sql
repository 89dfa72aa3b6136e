-- Hold amounts for jobs that are ordered together: write the holds, and set their sum aside in the budget of the key, in
-- that of the project, and in the wallet, in this order (app.lock_order). Each step reads the one before it, so it is
-- written after it. `holds` are the id, the job and the amount of each; `amount` is their sum, `largest` the largest.
--
-- Returned are what was written and, where a budget was too small, its limit: after a refusal the transaction is rolled
-- back. What costs nothing fits, also where a lowered limit lies under what was spent. The budget of a rotated key is
-- that of the key it came from.
WITH new_hold AS (
    INSERT INTO holds (id, job_id, account_id, project_id, key_id, month, amount, state, captured_amount, created_at)
    SELECT h ->> 0, h ->> 1, :account_id, :project_id, :key_id, :month, CAST(h ->> 2 AS bigint), 'held', 0, :now
    FROM jsonb_array_elements(CAST(:holds AS jsonb)) AS h
    ON CONFLICT (job_id) DO NOTHING
    RETURNING id
),
is_new AS (
    SELECT (SELECT count(*) FROM new_hold) = jsonb_array_length(CAST(:holds AS jsonb)) AS is_new
),
key_limits AS (
    SELECT lineage, budget_total, job_cap FROM api_keys WHERE id = :key_id
),
project_limits AS (
    SELECT id, budget_month, alert_month, alert_told_month FROM projects WHERE id = :project_id
),
key_budget AS (
    INSERT INTO budgets AS b (id, account_id, scope, subject_id, month, held, spent)
    SELECT :key_budget_id, :account_id, 'key', k.lineage, '', :amount, 0
    FROM key_limits AS k
    WHERE (SELECT is_new FROM is_new)
      AND CAST(:largest AS bigint) <= coalesce(k.job_cap, CAST(:largest AS bigint))
      AND CAST(:amount AS bigint) <= coalesce(k.budget_total, CAST(:amount AS bigint))
    ON CONFLICT (scope, subject_id, month) DO UPDATE SET held = b.held + excluded.held
    WHERE excluded.held = 0
       OR b.spent + b.held + excluded.held
          <= coalesce((SELECT budget_total FROM key_limits), b.spent + b.held + excluded.held)
    RETURNING b.id, b.held + b.spent AS used
),
project_budget AS (
    INSERT INTO budgets AS b (id, account_id, scope, subject_id, month, held, spent)
    SELECT :project_budget_id, :account_id, 'project', p.id, :month, :amount, 0
    FROM project_limits AS p
    WHERE (SELECT count(*) FROM key_budget) = (SELECT count(*) FROM key_limits)
      AND CAST(:amount AS bigint) <= least(p.budget_month, CAST(:amount AS bigint))
    ON CONFLICT (scope, subject_id, month) DO UPDATE SET held = b.held + excluded.held
    WHERE excluded.held = 0
       OR b.spent + b.held + excluded.held
          <= coalesce((SELECT budget_month FROM project_limits), b.spent + b.held + excluded.held)
    RETURNING b.id, b.held + b.spent AS used
),
wallet AS (
    UPDATE wallets SET held = held + :amount
    WHERE account_id = :account_id
      AND (SELECT is_new FROM is_new)
      AND (SELECT count(*) FROM project_budget) = (SELECT count(*) FROM project_limits)
      AND (SELECT count(*) FROM key_budget) = (SELECT count(*) FROM key_limits)
      -- As app.wallet.balance.available_now. A hold of nothing (a test job, a film in free seconds) succeeds even with a
      -- negative balance.
      AND (CAST(:amount AS bigint) = 0 OR posted - held + credit_limit - (
              SELECT coalesce(sum(l.remaining), 0) FROM credit_lots AS l
              WHERE l.account_id = :account_id AND l.remaining > 0 AND l.expires_at <= :now
          ) >= CAST(:amount AS bigint))
    RETURNING low_balance_told_at IS NULL AS is_untold, low_balance, held, posted - held + credit_limit - (
        SELECT coalesce(sum(l.remaining), 0) FROM credit_lots AS l
        WHERE l.account_id = :account_id AND l.remaining > 0 AND l.expires_at <= :now
    ) AS available
)
SELECT
    n.is_new,
    k.lineage, k.budget_total, k.job_cap, p.budget_month,
    kb.id IS NOT NULL AS fits_key,
    pb.id IS NOT NULL AS fits_project,
    w.held IS NOT NULL AS fits_wallet,
    coalesce(w.is_untold AND w.available < w.low_balance, false) AS is_low,
    coalesce(pb.used >= p.alert_month AND p.alert_told_month IS DISTINCT FROM :month, false) AS passes_alert,
    -- What is held and spent now, these holds included.
    kb.used AS key_used, pb.used AS project_used, w.held AS wallet_held, w.available AS wallet_available
FROM is_new AS n
LEFT JOIN key_limits AS k ON true
LEFT JOIN project_limits AS p ON true
LEFT JOIN key_budget AS kb ON true
LEFT JOIN project_budget AS pb ON true
LEFT JOIN wallet AS w ON true
