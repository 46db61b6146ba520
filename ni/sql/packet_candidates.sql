-- The postings that a run would take: those of a packet in a status, of one run if it is given.
SELECT p.posting_id
  FROM ni.unbooked AS u
 CROSS JOIN LATERAL (SELECT t.posting_id, t.unload_number FROM ni.posting AS t
                      WHERE t.bucket = u.bucket AND t.posting_id = u.posting_id
                     OFFSET 0) AS p
 WHERE u.bucket = ANY (ni.buckets_v1()) AND u.client = $1 AND u.packet = $2 AND u.status = $3
   AND ($4::integer IS NULL OR p.unload_number = $4)
 ORDER BY p.posting_id
 LIMIT $5;
