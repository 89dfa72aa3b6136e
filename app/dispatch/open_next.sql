-- Make the next segment of a shot ready, where it has one, and return the pools in which the account has ready segments:
-- they may have been held back by its limit, which counts its segments in all pools, test orders apart. What others have
-- waiting was not.
--
-- This is a statement after end_take.sql, which may have waited for the account's share: an order that was committed
-- meanwhile is seen.
WITH opened AS (
    UPDATE units SET state = 'ready'
    WHERE job_id = :job_id AND kind = 'segment' AND shot = :shot AND position = :position AND state = 'blocked'
    RETURNING pool
)
SELECT pool FROM opened
UNION
SELECT name FROM pools
WHERE name <> :finish_pool AND (name = :test_pool) = (CAST(:pool AS text) = :test_pool)
    AND EXISTS (
        SELECT FROM units
        WHERE pool = name AND state = 'ready' AND class IN (0, 1, 2) AND account_id = :account_id
    )
