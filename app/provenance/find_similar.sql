-- The films of which frames may look like those of a file: those that share parts of hashes, the most first.
SELECT film_id, frame_hashes
FROM (
    SELECT film_id, frame_hashes, hash_parts
    FROM registry_films
    WHERE hash_parts && CAST(:parts AS integer[])
    LIMIT :candidates_max
) AS candidates
ORDER BY (SELECT count(*) FROM unnest(hash_parts) AS part WHERE part = ANY (CAST(:parts AS integer[]))) DESC, film_id
LIMIT :compared_max
