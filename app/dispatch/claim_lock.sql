-- Lock the rows of a lease, unless another transaction holds one: the unit's job, the unit, the account's claims in other
-- pools, whose segments count too, and its share. One row, without what is not locked.
WITH locked AS MATERIALIZED (
    SELECT j.id AS job_id, j.state AS job_state, j.not_after, j.spec ->> 'resolution' AS resolution,
           j.spec ->> 'service_tier' AS service_tier, j.traceparent, j.request_id,
           u.id AS unit_id, u.state AS unit_state, u.account_id, u.kind, u.pool, u.model, u.frames, u.estimate
    FROM jobs AS j
    JOIN units AS u ON u.job_id = j.id
    WHERE u.id = :unit_id
    FOR UPDATE OF j, u SKIP LOCKED
),
counted AS MATERIALIZED (
    SELECT l.pool, l.account_id, pg_try_advisory_xact_lock(hashtext('segments:' || l.account_id)) AS may_count
    FROM locked AS l
),
share AS MATERIALIZED (
    SELECT s.pool, s.account_id, s.weight, s.concurrency
    FROM shares AS s
    JOIN counted AS c ON c.may_count AND s.pool = c.pool AND s.account_id = c.account_id
    FOR UPDATE OF s SKIP LOCKED
)
SELECT l.*, c.may_count, s.weight, s.concurrency,
       EXISTS (SELECT FROM shares AS e WHERE e.pool = l.pool AND e.account_id = l.account_id) AS has_share
FROM locked AS l
JOIN counted AS c ON true
LEFT JOIN share AS s ON true
