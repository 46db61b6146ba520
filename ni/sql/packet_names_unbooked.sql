-- The packets of a client that have a status other than booked, by name, from after a name on: only
-- names of which something is left in ni.unbooked are looked at, $4 at most; "last" is the last.
WITH RECURSIVE named (packet, place) AS (
    (SELECT f.packet, 1
       FROM (SELECT min(b.packet) AS packet
               FROM unnest(ni.buckets_v1()) AS g (bucket)
              CROSS JOIN LATERAL (
                SELECT u.packet FROM ni.unbooked AS u
                 WHERE u.bucket = g.bucket AND u.client = $1 AND u.packet > $2
                 ORDER BY u.packet LIMIT 1) AS b) AS f
      WHERE f.packet IS NOT NULL)
    UNION ALL
    SELECT f.packet, n.place + 1
      FROM named AS n
     CROSS JOIN LATERAL (
        SELECT min(b.packet) AS packet
          FROM unnest(ni.buckets_v1()) AS g (bucket)
         CROSS JOIN LATERAL (
            SELECT u.packet FROM ni.unbooked AS u
             WHERE u.bucket = g.bucket AND u.client = $1 AND u.packet > n.packet
             ORDER BY u.packet LIMIT 1) AS b) AS f
     WHERE n.place < $4 AND f.packet IS NOT NULL
), told AS (
    SELECT n.packet, n.place,
           CASE WHEN 'pending' = ANY (o.statuses) THEN 'open'
                WHEN 'awaiting_acceptance' = ANY (o.statuses) THEN 'awaiting_acceptance'
                WHEN 'problem' = ANY (o.statuses) THEN 'problems' ELSE 'booked' END AS status
      FROM named AS n
     CROSS JOIN LATERAL (
        SELECT array_agg(s.status) AS statuses
          FROM (VALUES ('pending'), ('awaiting_acceptance'), ('problem')) AS s (status)
         WHERE EXISTS (SELECT FROM ni.unbooked AS u
                        WHERE u.bucket = ANY (ni.buckets_v1()) AND u.client = $1
                          AND u.packet = n.packet AND u.status = s.status)) AS o
)
SELECT coalesce(array_agg(t.packet ORDER BY t.place) FILTER (WHERE t.status = $3::text), '{}')
           AS packets,
       max(t.packet) AS last, count(*) AS looked_at
  FROM told AS t;
