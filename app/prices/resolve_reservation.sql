-- Settle or return a reservation: count what was used of it, and release the rest. Never more than was reserved.
--
-- The counters are locked in the order of app.lock_order: free seconds, then the promotions of the account by their
-- names. Each step reads the one before it, so it is written after it. No row is returned where nothing is reserved.
WITH resolved AS (
    UPDATE reservations
    SET state = :state, resolved_at = :now, free_used = least(free, CAST(:flicks AS bigint)),
        promotions_used = coalesce((
            SELECT jsonb_object_agg(r.key, least(CAST(r.value AS bigint), coalesce(CAST(u.value AS bigint), 0)))
            FROM jsonb_each_text(promotions) AS r
            LEFT JOIN jsonb_each_text(CAST(:discounts AS jsonb)) AS u ON u.key = r.key
            WHERE CAST(:state AS text) = 'settled'
        ), CAST('{}' AS jsonb))
    WHERE quote_id = :owner AND state = 'held'
    RETURNING account_id, month, free, free_used, promotions, promotions_used
),
free AS (
    UPDATE free_uses AS f SET reserved = f.reserved - r.free, spent = f.spent + r.free_used
    FROM resolved AS r
    WHERE r.free > 0 AND f.account_id = r.account_id AND f.month = r.month
    RETURNING f.month
),
locked AS MATERIALIZED (
    SELECT p.promotion, p.account_id FROM promotion_uses AS p
    JOIN resolved AS r ON r.account_id = p.account_id AND r.promotions ? p.promotion
    WHERE (SELECT count(*) FROM free) >= 0
    ORDER BY p.promotion
    FOR UPDATE OF p
),
used AS (
    UPDATE promotion_uses AS p
    SET reserved = p.reserved - CAST(r.promotions ->> p.promotion AS bigint),
        spent = p.spent + coalesce(CAST(r.promotions_used ->> p.promotion AS bigint), 0)
    FROM locked AS l, resolved AS r
    WHERE p.promotion = l.promotion AND p.account_id = l.account_id
    RETURNING p.promotion
)
SELECT r.promotions, r.promotions_used, (SELECT count(*) FROM used) AS counted FROM resolved AS r
