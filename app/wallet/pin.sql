-- Pin credit lots for holds, in the order of spending: the lots and the holds stand side by side, each with what comes
-- before it, and a slice is where the two meet. The caller holds the wallet since an earlier statement: the lots are
-- read as they are now.
WITH ordered AS (
    SELECT id, remaining, CAST(sum(remaining) OVER spending AS bigint) - remaining AS before
    FROM credit_lots
    WHERE account_id = :account_id AND remaining > 0 AND (expires_at IS NULL OR expires_at > :now)
    WINDOW spending AS (ORDER BY expires_at NULLS LAST, kind = 'purchased', created_at, id)
), wanted AS (
    SELECT h ->> 0 AS hold_id, CAST(h ->> 1 AS bigint) AS amount,
        CAST(sum(CAST(h ->> 1 AS bigint)) OVER (ORDER BY n) AS bigint) - CAST(h ->> 1 AS bigint) AS before
    FROM jsonb_array_elements(CAST(:holds AS jsonb)) WITH ORDINALITY AS each (h, n)
), slice AS (
    SELECT w.hold_id, o.id AS lot_id,
        least(o.before + o.remaining, w.before + w.amount) - greatest(o.before, w.before) AS amount
    FROM wanted AS w
    JOIN ordered AS o ON o.before < w.before + w.amount AND w.before < o.before + o.remaining
), lowered AS (
    UPDATE credit_lots SET remaining = credit_lots.remaining - s.amount
    FROM (SELECT lot_id, sum(amount) AS amount FROM slice GROUP BY lot_id) AS s
    WHERE credit_lots.id = s.lot_id
)
INSERT INTO hold_slices (hold_id, lot_id, amount) SELECT hold_id, lot_id, amount FROM slice
