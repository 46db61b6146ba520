-- The postings that a run would take: those of a packet in a status, of one run if it is given.
SELECT p.posting_id
  FROM ni.postings_of_run_v1($1, $2, $3, $5) AS u
 CROSS JOIN LATERAL (SELECT t.posting_id, t.unload_number FROM ni.posting AS t
                      WHERE t.bucket = u.bucket AND t.posting_id = u.posting_id
                     OFFSET 0) AS p
 WHERE $4::integer IS NULL OR p.unload_number = $4
 ORDER BY p.posting_id;
