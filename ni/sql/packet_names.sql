-- The packets of a client by name, from after a name on, each found by one step in the index; with
-- a status, those that have it. At most $4 names are looked at; "last" is the last of them.
WITH RECURSIVE named (packet, place) AS (
    (SELECT p.packet, 1 FROM ni.posting AS p
      WHERE p.client = $1 AND p.home AND p.packet > $2
      ORDER BY p.packet LIMIT 1)
    UNION ALL
    SELECT f.packet, n.place + 1
      FROM named AS n
     CROSS JOIN LATERAL (SELECT p.packet FROM ni.posting AS p
                          WHERE p.client = $1 AND p.home AND p.packet > n.packet
                          ORDER BY p.packet LIMIT 1) AS f
     WHERE n.place < $4
), told AS (
    SELECT n.packet, n.place,
           CASE WHEN 'pending' = ANY (o.statuses) THEN 'open'
                WHEN 'awaiting_acceptance' = ANY (o.statuses) THEN 'awaiting_acceptance'
                WHEN 'problem' = ANY (o.statuses) THEN 'problems' ELSE 'booked' END AS status
      FROM named AS n
     CROSS JOIN LATERAL (
        SELECT array_agg(s.status) AS statuses
          FROM (VALUES ('pending'), ('awaiting_acceptance'), ('problem')) AS s (status)
         WHERE $3::text IS NOT NULL
           AND EXISTS (SELECT FROM ni.unbooked AS u
                        WHERE u.bucket = ANY (ni.buckets_v1()) AND u.client = $1
                          AND u.packet = n.packet AND u.status = s.status)) AS o
)
SELECT coalesce(array_agg(t.packet ORDER BY t.place)
                FILTER (WHERE $3 IS NULL OR t.status = $3), '{}') AS packets,
       max(t.packet) AS last, count(*) AS looked_at
  FROM told AS t;
