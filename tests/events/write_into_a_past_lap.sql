-- As if events were written four laps ago.
ALTER TABLE ni.outbox ALTER COLUMN lap
    SET DEFAULT ((date_part('epoch', clock_timestamp())::bigint >> 3) + 4 & 7)::smallint;
