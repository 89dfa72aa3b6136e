-- What a frequent read needs of an API key, and the moment by the database's clock.
SELECT id, account_id, project_id, test, scopes, roles, secret_hash, revoked_at, expires_at, last_used_at,
       clock_timestamp() AS moment
FROM api_keys
WHERE keyid = :keyid
