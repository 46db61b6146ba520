-- An account's postings before an id, newest first, over the buckets that may have them.
SELECT p.*
  FROM unnest($1::smallint[]) AS b (bucket)
 CROSS JOIN LATERAL (
    (SELECT * FROM ni.posting AS d
      WHERE d.bucket = b.bucket AND d.debit_account = $2 AND $3::text IS NULL
        AND d.posting_id < coalesce($4, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
      ORDER BY d.posting_id DESC LIMIT $5)
    UNION ALL
    (SELECT * FROM ni.posting AS c
      WHERE c.bucket = b.bucket AND c.credit_account = $2 AND $3::text IS NULL
        AND c.posting_id < coalesce($4, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
      ORDER BY c.posting_id DESC LIMIT $5)) AS p
 ORDER BY p.posting_id DESC
 LIMIT $5;
