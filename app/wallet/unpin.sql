-- Spend the slices of a resolved hold up to `spent`, in the order of spending, and give the rest back to their lots.
-- The caller holds the wallet, and has written the hold as resolved.
--
-- Where something would go back to a lot that has expired, nothing is written (`is_expired`). `debt` is what is then
-- owed; it is added up only where credit was spent or came back, as it is 0 otherwise.
WITH slices AS MATERIALIZED (
    SELECT s.lot_id, s.amount, l.expires_at,
           least(s.amount, greatest(0, :spent - (CAST(sum(s.amount) OVER spending AS bigint) - s.amount))) AS used
    FROM hold_slices AS s
    JOIN credit_lots AS l ON l.id = s.lot_id
    WHERE s.hold_id = :hold_id
    WINDOW spending AS (ORDER BY l.expires_at NULLS LAST, l.kind = 'purchased', l.created_at, l.id)
),
whole AS MATERIALIZED (
    SELECT coalesce(sum(used), 0) AS used, coalesce(sum(amount - used), 0) AS back,
           coalesce(bool_or(used < amount AND expires_at <= :now), false) AS is_expired
    FROM slices
),
spent AS (
    UPDATE hold_slices AS s SET used = p.used
    FROM slices AS p, whole AS w
    WHERE s.hold_id = :hold_id AND s.lot_id = p.lot_id AND NOT w.is_expired
),
returned AS (
    UPDATE credit_lots AS l SET remaining = l.remaining + p.amount - p.used
    FROM slices AS p, whole AS w
    WHERE l.id = p.lot_id AND p.used < p.amount AND NOT w.is_expired
)
SELECT w.is_expired,
    CASE WHEN w.back > 0 OR w.used < :spent THEN
        w.back
        + (SELECT coalesce(sum(remaining), 0) FROM credit_lots WHERE account_id = :account_id AND remaining > 0)
        + (SELECT coalesce(sum(s.amount), 0) FROM hold_slices AS s JOIN holds AS h ON h.id = s.hold_id
           WHERE h.account_id = :account_id AND h.state = 'held')
        - (SELECT posted FROM wallets WHERE account_id = :account_id)
    ELSE 0 END AS debt
FROM whole AS w
