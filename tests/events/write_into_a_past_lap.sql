-- As if events were written three laps ago: one and the same lap, however long the test lasts.
DO $$
BEGIN
    EXECUTE format('ALTER TABLE ni.outbox ALTER COLUMN lap SET DEFAULT %s',
                   (date_part('epoch', clock_timestamp())::bigint >> 3) + 5 & 7);
END
$$;
