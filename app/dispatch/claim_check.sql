-- What a claim has to know before it leases a unit: counted with the account's claims in other pools locked out, so in a
-- statement after claim_lock.sql. The caller holds the job.
SELECT
    coalesce(CAST(:at AS timestamptz), clock_timestamp() + CAST(:shift AS interval)) AS now,
    EXISTS (SELECT FROM takes WHERE unit_id = :unit_id AND state = 'running') AS has_take,
    -- Test orders have a pool of their own; takes that run there count only there.
    (SELECT count(*) FROM takes AS t
     WHERE t.account_id = :account_id AND t.state = 'running' AND t.kind = 'segment'
       AND (t.pool = :test_pool) = (CAST(:pool AS text) = :test_pool)) AS running,
    (SELECT CASE WHEN :kind = 'segment' THEN p.gpu_p50 ELSE p.p50 END FROM paces AS p
     WHERE p.model = :model AND p.kind = :kind AND p.shape = :resolution) AS pace
