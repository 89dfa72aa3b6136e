-- A key and its account, and the moment by the session's clock (see app.clock.clock_inputs).
SELECT k.id AS key_id, k.project_id, k.member_id, k.issued_by, k.secret_hash, k.scopes, k.roles, k.test AS key_test,
       k.last_used_at, k.expires_at, k.revoked_at,
       a.id, a.name, a.kind, a.currency, a.billing_zone, a.test, a.concurrency, a.queue_limit, a.visible_label,
       a.moderation_level, a.declarations_required, a.rights_declared_at, a.rights_declared_by, a.suspended_at,
       a.suspended_reason, a.created_at,
       coalesce(CAST(:at AS timestamptz), clock_timestamp() + CAST(:shift AS interval)) AS now
FROM api_keys AS k
JOIN accounts AS a ON a.id = k.account_id
WHERE k.keyid = :keyid
