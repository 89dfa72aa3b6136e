-- Record the use of a key. Requests of one key come in parallel: one that finds the row locked leaves it to the other.
UPDATE api_keys SET last_used_at = :moment
WHERE id = (
    SELECT id FROM api_keys
    WHERE id = :key_id AND (last_used_at IS NULL OR last_used_at <= :before)
    FOR NO KEY UPDATE SKIP LOCKED
)
