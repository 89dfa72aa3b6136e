-- The films of which frames may look like those of a file: those that share most parts of hashes with it.
-- A part that many films have says little, so of each part a limited number of films counts. A limit of rows would let
-- the planner prefer a scan of the table to the index; a row number ends as early and does not. Films of test keys are
-- left out: strangers ask.
WITH shared AS (
    SELECT film_id, count(*) AS parts
    FROM unnest(CAST(:parts AS integer[])) AS part
    CROSS JOIN LATERAL (
        SELECT film_id
        FROM (
            SELECT film_id, row_number() OVER () AS number
            FROM registry_films
            WHERE hash_parts @> ARRAY[part] AND NOT test
        ) AS numbered
        WHERE number <= :films_max
    ) AS films
    GROUP BY film_id
    ORDER BY parts DESC, film_id
    LIMIT :compared_max
)
SELECT film_id, frame_hashes
FROM shared JOIN registry_films USING (film_id)
ORDER BY parts DESC, film_id
