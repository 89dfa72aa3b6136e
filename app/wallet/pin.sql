-- Pin credit lots for a hold, in the order of spending. The caller holds the wallet since an earlier statement: the lots
-- are read as they are now.
WITH ordered AS (
    SELECT id, remaining, CAST(sum(remaining) OVER spending AS bigint) - remaining AS before
    FROM credit_lots
    WHERE account_id = :account_id AND remaining > 0 AND (expires_at IS NULL OR expires_at > :now)
    WINDOW spending AS (ORDER BY expires_at NULLS LAST, kind = 'purchased', created_at, id)
), taken AS (
    SELECT id, least(remaining, CAST(:amount AS bigint) - before) AS amount
    FROM ordered WHERE before < CAST(:amount AS bigint)
), lowered AS (
    UPDATE credit_lots SET remaining = credit_lots.remaining - taken.amount FROM taken WHERE credit_lots.id = taken.id
)
INSERT INTO hold_slices (hold_id, lot_id, amount) SELECT :hold_id, id, amount FROM taken
