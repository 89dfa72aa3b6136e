-- Resolve a hold: capture `spent` of it, or release it all (`spent` 0). The budgets of its key and its project follow,
-- and the transfer of what is captured is written, before the wallet is locked (app.lock_order).
--
-- Returned is the hold, or no row when it has been resolved before or is less than `spent`.
WITH resolved AS (
    UPDATE holds SET state = :state, captured_amount = :spent, resolved_at = :now
    WHERE job_id = :job_id AND state = 'held' AND amount >= CAST(:spent AS bigint)
    RETURNING id, account_id, project_id, key_id, month, amount
),
key_budget AS (
    UPDATE budgets AS b SET held = b.held - r.amount, spent = b.spent + :spent
    FROM resolved AS r
    JOIN api_keys AS k ON k.id = r.key_id
    WHERE b.scope = 'key' AND b.subject_id = k.lineage AND b.month = ''
    RETURNING b.id
),
project_budget AS (
    UPDATE budgets AS b SET held = b.held - r.amount, spent = b.spent + :spent
    FROM resolved AS r
    WHERE b.scope = 'project' AND b.subject_id = r.project_id AND b.month = r.month
      AND (SELECT count(*) FROM key_budget) >= 0
    RETURNING b.id
),
transfer AS (
    INSERT INTO transfers (id, account_id, debit, credit, amount, currency, kind, job_id, reference, reason, at)
    SELECT :transfer_id, r.account_id, 'wallet:' || r.account_id, 'revenue', :spent, w.currency, 'capture', :job_id,
           'capture:' || r.account_id || ':' || CAST(:job_id AS text), '', :now
    FROM resolved AS r
    JOIN wallets AS w ON w.account_id = r.account_id
    WHERE CAST(:spent AS bigint) > 0 AND (SELECT count(*) FROM project_budget) >= 0
    RETURNING currency
)
SELECT r.*, (SELECT currency FROM transfer) AS currency, (SELECT count(*) FROM project_budget) AS budgets
FROM resolved AS r
