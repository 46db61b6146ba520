-- An account's postings with a reference, before an id, newest first.
SELECT p.*
  FROM unnest($1::smallint[]) AS b (bucket)
 CROSS JOIN LATERAL (
    SELECT * FROM ni.posting AS t
     WHERE t.bucket = b.bucket AND t.reference = $3
       AND (t.debit_account = $2 OR t.credit_account = $2)
       AND t.posting_id < coalesce($4, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
     ORDER BY t.posting_id DESC LIMIT $5) AS p
 ORDER BY p.posting_id DESC
 LIMIT $5;
