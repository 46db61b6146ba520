-- A position and a state for each of the first $1 customer accounts.
WITH positions AS (
    INSERT INTO bench.position (bucket, account)
    SELECT 0, 'CZ' || lpad(number::text, 10, '0') FROM generate_series(0, $1::bigint - 1) AS number
    RETURNING account
)
INSERT INTO bench.state (bucket, account, era, created, held, sequence, decided_at)
SELECT 0, account, 0, 0, 0, 0, clock_timestamp() FROM positions;
