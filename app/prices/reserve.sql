-- Reserve what prices use: free seconds, and discounts of the account's own counts of promotions, by their names, in the
-- order of app.lock_order. `promotions` are the discount and the account's cap by the promotion's name, and `free` the
-- flicks, of all prices together; `reservations` are the owner, the flicks and the discounts of each price.
--
-- Returned is what fitted: the caller takes everything back where something is missing.
WITH wanted AS (
    SELECT p.key AS promotion, CAST(p.value ->> 0 AS bigint) AS minor, CAST(p.value ->> 1 AS bigint) AS cap
    FROM jsonb_each(CAST(:promotions AS jsonb)) AS p
),
free AS (
    INSERT INTO free_uses AS f (account_id, month, reserved, spent)
    SELECT :account_id, :month, :free, 0
    WHERE CAST(:free AS bigint) BETWEEN 1 AND CAST(:free_limit AS bigint)
    ON CONFLICT (account_id, month) DO UPDATE SET reserved = f.reserved + excluded.reserved
    WHERE f.spent + f.reserved + excluded.reserved <= CAST(:free_limit AS bigint)
    RETURNING f.month
),
used AS (
    INSERT INTO promotion_uses AS p (promotion, account_id, reserved, spent)
    SELECT w.promotion, :account_id, w.minor, 0
    FROM wanted AS w
    WHERE w.minor <= coalesce(w.cap, w.minor) AND (SELECT count(*) FROM free) >= 0
    ORDER BY w.promotion
    ON CONFLICT (promotion, account_id) DO UPDATE SET reserved = p.reserved + excluded.reserved
    WHERE p.spent + p.reserved + excluded.reserved <= coalesce(
        (SELECT w.cap FROM wanted AS w WHERE w.promotion = excluded.promotion), p.spent + p.reserved + excluded.reserved
    )
    RETURNING p.promotion
),
reservation AS (
    INSERT INTO reservations (quote_id, account_id, month, state, free, free_used, promotions, promotions_used,
                              created_at)
    SELECT r ->> 0, :account_id, :month, 'held', CAST(r ->> 1 AS bigint), 0, r -> 2, '{}', :now
    FROM jsonb_array_elements(CAST(:reservations AS jsonb)) AS r
)
SELECT EXISTS (SELECT FROM free) AS has_free, (SELECT array_agg(promotion) FROM used) AS promotions
