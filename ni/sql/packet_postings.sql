-- The postings of a packet before an id, newest first.
SELECT *
  FROM ni.posting
 WHERE client = $1 AND packet = $2 AND home AND ($3::text IS NULL OR status = $3)
   AND posting_id < coalesce($4, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
 ORDER BY posting_id DESC
 LIMIT $5;
