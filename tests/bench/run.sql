-- A run of a packet as an unload leaves it.
INSERT INTO ni.unload (bucket, client, packet, number, status, accepted, unloaded_by, verdict_at,
                       verdict_snapshot, business_date, booked, problems, totals)
VALUES (0, $1, $2, 1, 'booked', true, 'ni', clock_timestamp(), pg_current_snapshot(),
        '1993-01-04', 1, 0, '{}');
