-- Change the two sums of a wallet for a hold that was resolved, and number the receipt of its job.
-- The wallet's row is locked from here to the end of the transaction. So the numbers of an account have no gap: a
-- settlement that is rolled back gives its number back.
WITH wallet AS (
    UPDATE wallets
    SET posted = posted - :spent, held = held - :held,
        live_receipts = live_receipts + CASE WHEN CAST(:test AS boolean) THEN 0 ELSE 1 END,
        test_receipts = test_receipts + CASE WHEN CAST(:test AS boolean) THEN 1 ELSE 0 END
    WHERE account_id = :account_id
    RETURNING account_id, low_balance_told_at IS NOT NULL AS is_told_low,
              CASE WHEN CAST(:test AS boolean) THEN test_receipts ELSE live_receipts END AS number
),
numbered AS (
    INSERT INTO receipt_numbers (job_id, account_id, test, number)
    SELECT :job_id, account_id, :test, number FROM wallet
)
SELECT is_told_low FROM wallet
